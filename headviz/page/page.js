() => {
  document.addEventListener('click', (event) => {
    if (event.target.closest('#hv-theme')) document.body.classList.toggle('dark');
  });
  // Double-click on a factor puts it back to 1, as a release by hand would.
  document.addEventListener('dblclick', (event) => {
    const slider = event.target.closest('.hv-alpha input[type=range]');
    if (!slider) return;
    const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set;
    set.call(slider, '1');
    slider.dispatchEvent(new Event('input', { bubbles: true }));
    slider.dispatchEvent(new PointerEvent('pointerup', { bubbles: true }));
  });
}
