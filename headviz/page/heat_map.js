// One listener for the whole grid; the cells are drawn anew with every value.
const cells = () => [...element.querySelectorAll('.hv-cell')];
const at = (layer, head) =>
  element.querySelector(`.hv-cell[data-layer="${layer}"][data-head="${head}"]`);
let focused = null;

element.addEventListener('click', (event) => {
  const cell = event.target.closest('.hv-cell');
  if (!cell) return;
  focused = [Number(cell.dataset.layer), Number(cell.dataset.head)];
  trigger('head_open', { layer: focused[0], head: focused[1] });
});

const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
element.addEventListener('keydown', (event) => {
  const cell = event.target.closest('.hv-cell');
  const step = steps[event.key];
  if (!cell || !step) return;
  event.preventDefault();
  const layers = Number(getComputedStyle(cell.closest('.hv-map')).getPropertyValue('--rows'));
  let [layer, head] = [Number(cell.dataset.layer) + step[0], Number(cell.dataset.head) + step[1]];
  // Layers without heads are stepped over.
  while (step[0] && layer >= 0 && layer < layers && !at(layer, 0)) layer += step[0];
  const next = at(layer, head);
  if (!next) return;
  cells().forEach((other) => (other.tabIndex = -1));
  next.tabIndex = 0;
  next.focus();
});

// A drawing that replaces the focused cell gives the focus to its successor.
element.addEventListener('focusin', (event) => {
  const cell = event.target.closest('.hv-cell');
  if (cell) focused = [Number(cell.dataset.layer), Number(cell.dataset.head)];
});
element.addEventListener('focusout', (event) => {
  if (event.relatedTarget && !element.contains(event.relatedTarget)) focused = null;
});
new MutationObserver(() => {
  if (focused && document.activeElement === document.body) at(...focused)?.focus();
}).observe(element, { childList: true, subtree: true });
