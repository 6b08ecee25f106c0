// The map of heads: laid out for the width there is, moved in by keys, marked with what is edited.
(() => {
  const hv = window.headviz;
  const PATIENCE = 900; // ms in which the server draws a head
  const [LABEL, CELL, NARROW, TALLEST, LOWEST_CELL, HIGHEST_CELL] = [40, 21, 17, 520, 14, 30]; // px

  // Where every head stands: layers across where there are more of them than heads, else heads
  // across, in as many lines a layer as the width asks for.
  const layout = (map, width) => {
    const [layers, heads] = [Number(map.dataset.layers), Number(map.dataset.heads)];
    const room = Math.max(4, Math.floor((width - LABEL) / CELL));
    const across = layers > heads && layers <= Math.floor((width - LABEL) / NARROW);
    const lines = across ? 1 : Math.ceil(heads / room);
    const columns = across ? layers : Math.ceil(heads / lines);
    const rows = across ? heads : layers * lines;
    const place = (layer, head) => across ? [head, layer]
      : [layer * lines + Math.floor(head / columns), head % columns];
    return { across, lines, columns, rows, layers, heads, place };
  };

  // Which heads write a word: what is found opens as a cell of the map does.
  hv.search = ({ element, trigger }) => element.addEventListener('submit', (event) => {
    event.preventDefault();
    const word = element.querySelector('input').value.trim();
    if (word) hv.send(trigger, 'search', { word });
  });
  hv.found = ({ element }) => element.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-layer]');
    if (button) hv.open(Number(button.dataset.layer), Number(button.dataset.head));
  });

  hv.map = ({ element, trigger, watch }) => {
    let focused = null;
    const at = (layer, head) =>
      element.querySelector(`.hv-map .hv-cell[data-layer="${layer}"][data-head="${head}"]`);
    const open = (layer, head) => {
      hv.state.opened = `L${layer}.H${head}`;
      hv.send(trigger, 'head_open', { layer, head });
      hv.tell();
      hv.byHand = true;
      setTimeout(() => hv.look?.(), PATIENCE); // the head that is open already is not drawn anew
      if (window.innerWidth < 800) document.querySelector('#head').scrollIntoView({ block: 'nearest' });
    };

    hv.open = open;
    const arrange = () => {
      const map = element.querySelector('.hv-map');
      if (!map || !map.clientWidth) return;
      const plan = layout(map, map.clientWidth);
      const height = Math.min(HIGHEST_CELL, Math.max(LOWEST_CELL, TALLEST / plan.rows));
      map.style.gridTemplateColumns = `${LABEL}px repeat(${plan.columns}, minmax(0, 1fr))`;
      map.style.gridTemplateRows = `18px repeat(${plan.rows}, ${height}px)`;
      map.querySelectorAll('.hv-cell').forEach((cell) => {
        const [row, column] = plan.place(Number(cell.dataset.layer), Number(cell.dataset.head));
        cell.style.gridArea = `${row + 2} / ${column + 2}`;
      });
      map.querySelectorAll('.hv-row').forEach((row) => {
        const layer = Number(row.dataset.layer);
        const label = row.querySelector('.hv-layer');
        const [line, column] = plan.place(layer, 0);
        label.style.gridArea = plan.across ? `1 / ${column + 2}` : `${line + 2} / 1 / span ${plan.lines}`;
        label.textContent = plan.across ? (layer % 5 ? '' : layer) : `L${layer}`;
        label.setAttribute('aria-label', `Layer ${layer}`);
        const none = row.querySelector('.hv-none');
        if (none) none.style.gridArea = plan.across ? `2 / ${column + 2} / -1` : `${line + 2} / 2 / auto / -1`;
      });
      // The numbers along the other side, which a screen reader has from every cell.
      map.querySelectorAll('.hv-axis').forEach((old) => old.remove());
      const step = plan.across ? 1 : plan.columns > 16 ? 4 : plan.columns > 10 ? 2 : 1;
      const numbers = plan.across ? plan.heads : plan.columns;
      const axis = (text, area) => {
        const made = document.createElement('span');
        made.className = 'hv-axis';
        made.textContent = text;
        made.style.gridArea = area;
        made.setAttribute('aria-hidden', 'true');
        map.append(made);
      };
      for (let n = 0; n < numbers; n += step) {
        axis(plan.across ? `H${n}` : n, plan.across ? `${n + 2} / 1` : `1 / ${n + 2}`);
      }
      axis(plan.across ? 'layer →' : 'head →', '1 / 1');
    };

    const draw = ({ ask, opened }) => {
      if (!ask) return;
      element.querySelectorAll('.hv-map .hv-cell').forEach((cell) => {
        const name = `L${cell.dataset.layer}.H${cell.dataset.head}`;
        const factor = ask.heads[name] ?? 1;
        cell.classList.toggle('down', factor < 1);
        cell.classList.toggle('up', factor > 1);
        cell.classList.toggle('opened', name === opened);
        cell.tabIndex = -1;
        const told = cell.title + (factor === 1 ? '' : `, turned to ${factor}`) + (name === opened ? ', open' : '');
        if (cell.getAttribute('aria-label') !== told) cell.setAttribute('aria-label', told);
      });
      const first = element.querySelector('.hv-map .hv-cell.opened') ?? element.querySelector('.hv-map .hv-cell');
      if (first) first.tabIndex = 0;
    };

    element.addEventListener('click', (event) => {
      const cell = event.target.closest('button[data-layer]');
      if (cell) open(Number(cell.dataset.layer), Number(cell.dataset.head));
    });
    element.addEventListener('keydown', (event) => {
      const cell = event.target.closest('.hv-map .hv-cell');
      if (!cell) return;
      const map = cell.closest('.hv-map');
      const plan = layout(map, map.clientWidth);
      const [layer, head] = [Number(cell.dataset.layer), Number(cell.dataset.head)];
      const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      let next = null;
      if (event.key in moves) {
        const [row, column] = plan.place(layer, head);
        const [down, right] = moves[event.key];
        const places = new Map([...map.querySelectorAll('.hv-cell')].map((other) =>
          [plan.place(Number(other.dataset.layer), Number(other.dataset.head)).join(), other]));
        for (let n = 1; !next && n <= Math.max(plan.rows, plan.columns); n++) {
          next = places.get([row + n * down, column + n * right].join());
        }
      } else if (event.key === 'Home' || event.key === 'End') {
        const all = [...map.querySelectorAll('.hv-cell')]
          .filter((other) => event.ctrlKey || Number(other.dataset.layer) === layer);
        next = event.key === 'Home' ? all[0] : all.at(-1);
      } else return;
      event.preventDefault();
      if (!next) return;
      cell.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
    // A drawing that replaces the focused cell gives the focus to its successor.
    element.addEventListener('focusin', (event) => {
      const cell = event.target.closest('.hv-map .hv-cell');
      if (cell) focused = [cell.dataset.layer, cell.dataset.head];
    });
    element.addEventListener('focusout', (event) => {
      if (event.relatedTarget && !element.contains(event.relatedTarget)) focused = null;
    });
    new ResizeObserver(arrange).observe(element);
    const redraw = () => {
      arrange();
      draw(hv.state);
      if (focused && document.activeElement === document.body) at(...focused)?.focus();
    };
    watch('value', redraw);
    hv.listen(draw);
    redraw();
  };

  // Where the open head writes in its samples: asked for by whoever opens it, and for the head that
  // was open at first as soon as the model has answered.
  hv.head = ({ element, trigger, watch }) => {
    let answered = '';
    let wanted = ''; // the head that was last opened by hand
    const look = (patient) => {
      const head = hv.state.opened;
      if (!patient) wanted = head;
      // Only the newest is answered: what was asked for by hand stays so when it is asked for again.
      if (head) hv.send(trigger, 'look', { head, patient: patient && head !== wanted });
    };
    hv.look = () => { if (hv.byHand) { hv.byHand = false; look(false); } };
    const take = () => {
      hv.state.opened = element.querySelector('#head-title')?.dataset.head ?? '';
      if (hv.byHand) hv.look(); else look(true);
      hv.tell();
    };
    // The open head is turned, or taken out where it is turned already.
    const offer = ({ ask }) => {
      const button = element.querySelector('[data-add]');
      const text = ask && button && button.dataset.add in ask.heads ? 'leave this head out' : 'turn this head';
      if (button && button.textContent !== text) button.textContent = text;
    };
    hv.listen(offer);
    hv.listen((state) => {
      if (!state.done || state.running || state.shown === answered) return;
      if (answered && !element.querySelector('.hv-tint, .hv-veil')) look(true);
      answered = state.shown;
    });
    element.addEventListener('click', (event) => {
      const button = event.target.closest('[data-add]');
      if (button) (button.dataset.add in hv.state.ask.heads ? hv.remove : hv.add)(button.dataset.add);
    });
    watch('value', take);
    take();
  };
  hv.tints = ({ element, watch }) => watch('value', () => {
    const found = element.querySelector('[data-head]');
    const place = document.querySelector('#samples');
    if (found && place && found.dataset.head === hv.state.opened) place.replaceChildren(...found.cloneNode(true).childNodes);
  });
})();
