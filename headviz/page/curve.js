// How likely the word that matters is at every factor, above the knob: its axis is the knob's own.
(() => {
  const hv = window.headviz;
  const IDLE = 900; // ms without a change, from which on the page is idle
  const [HEIGHT, TOP, BOTTOM, EDGE] = [54, 15, 5, 8]; // px; EDGE: half a knob, which never leaves its track
  const [LOWEST, HIGHEST, MOST] = [-3, 8, 60];
  const percent = (share) => (share > 0 && share < 0.005 ? 'under 1%' : `${Math.round(share * 100)}%`);
  const minus = (number) => String(number).replace('-', '−');
  const svg = (tag, attributes, ...children) => {
    const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
    Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
    made.append(...children);
    return made;
  };

  hv.curve = ({ element, trigger, props, watch }) => {
    const told = element.querySelector('#curve-told');
    const drawing = svg('svg', { class: 'hv-likely', role: 'img', height: HEIGHT });
    const known = new Map(); // key of an ask -> what came of it
    const live = new Set(); // models that have answered here: for this alone none is loaded
    let [last, asked, timer, before] = [null, '', 0, ''];

    // One curve holds for every factor of the same heads on the same question.
    const same = (ask) => hv.key({ ...ask, earlier: [], heads: Object.fromEntries(Object.keys(ask.heads).map((name) => [name, 0])) });
    const current = ({ ask, shown }) => {
      const found = known.get(shown) ?? last;
      return found?.words.length && ask && same(found.ask) === same(ask) ? found : null;
    };
    const consider = (state) => {
      clearTimeout(timer);
      const { ask, about } = state;
      if (!ask || !about.writes || ask.pictures.length > 1 || !live.has(ask.model) || !Object.keys(ask.heads).length) return;
      if (state.running || !state.done || state.shown !== hv.key(ask) || known.has(state.shown) || asked === state.shown) return;
      timer = setTimeout(hv.askCurve, IDLE);
    };
    hv.askCurve = () => { asked = hv.state.shown; trigger('curve', { ask: hv.state.asked }); };

    // What is seen, as a sentence in pieces: of the factor that the knob is at, or of the nearest one measured.
    const sentence = (found, ask) => {
      const factors = Object.values(ask.heads);
      const even = factors.every((factor) => factor === factors[0]);
      const here = hv.key({ ...found.ask, earlier: [] }) === hv.key({ ...ask, earlier: [] });
      const mean = factors.reduce((sum, factor) => sum + factor, 0) / factors.length;
      const far = found.alphas.map((alpha) => Math.abs(alpha - mean));
      const nearest = far.indexOf(Math.min(...far));
      const [edited, control] = here ? found.now : [found.edited[nearest], found.control[nearest]];
      const at = here && !even ? 'as they are turned' : `at α = ${minus(here ? factors[0] : found.alphas[nearest])}`;
      const plain = found.edited[found.alphas.indexOf(1)];
      const [word, other] = found.words;
      const instead = other ? ` “${other}” in its place: ${percent(plain[1])} as the model is, ${percent(edited[1])} with these heads.` : '';
      return [`How likely “${word}” is there: ${percent(plain[0])} as the model is; ${at}: `,
        hv.make('b', { className: 'with-heads' }, `${percent(edited[0])} with these heads`), ', ',
        hv.make('b', { className: 'with-random' }, `${percent(control[0])} with random heads`), `.${instead}`];
    };

    const draw = (state) => {
      const found = hv.curveShown = current(state);
      const slide = document.querySelector('.hv-slide');
      if (!slide) return;
      if (drawing.parentElement !== slide) slide.prepend(drawing);
      drawing.classList.toggle('hv-none-yet', !found);
      element.hidden = !found;
      if (!found) { drawing.replaceChildren(); told.textContent = ''; return; }
      told.replaceChildren(...sentence(found, state.ask));
      const width = slide.clientWidth;
      const x = (alpha) => EDGE + ((alpha - LOWEST) / (HIGHEST - LOWEST)) * (width - 2 * EDGE);
      const y = (share) => TOP + (1 - share) * (HEIGHT - TOP - BOTTOM);
      const line = (name, rows) => svg('polyline', {
        class: name, points: rows.map(([share], n) => `${x(found.alphas[n])},${y(share)}`).join(' '),
      });
      const factors = Object.values(state.ask.heads);
      const knob = factors.every((factor) => factor === factors[0])
        ? [svg('line', { class: 'knob', x1: x(factors[0]), x2: x(factors[0]), y1: TOP, y2: HEIGHT })] : [];
      drawing.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
      drawing.setAttribute('aria-label', told.textContent);
      drawing.replaceChildren(
        svg('line', { class: 'edge', x1: EDGE, x2: width - EDGE, y1: y(1), y2: y(1) }),
        svg('line', { class: 'edge', x1: EDGE, x2: width - EDGE, y1: y(0), y2: y(0) }),
        ...knob, line('with-random', found.control), line('with-heads', found.edited),
        ...found.edited.map(([share], n) => svg('circle', { class: 'with-heads', cx: x(found.alphas[n]), cy: y(share), r: 2.2 })),
        svg('text', { x: width - EDGE, y: TOP - 4, 'text-anchor': 'end' }, `“${found.words[0]}”, 0 to 100% likely`),
      );
    };

    watch('value', () => {
      if (!props.value?.words) return;
      last = props.value;
      known.set(hv.key(last.ask), last);
      if (known.size > MOST) known.delete(known.keys().next().value);
      draw(hv.state);
    });
    hv.listen((state) => {
      if (state.running && state.ask) live.add(state.ask.model);
      const key = JSON.stringify([state.shown, state.running, state.done, state.ask]);
      if (key === before) return;
      before = key;
      draw(state);
      consider(state);
    });
    let wide = 0;
    new ResizeObserver(([entry]) => {
      if (entry.contentRect.width === wide) return; // its height is the curve's own
      wide = entry.contentRect.width;
      draw(hv.state);
    }).observe(document.querySelector('#bench'));
  };
})();
