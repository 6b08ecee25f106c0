// What heads write against what the model loses without them: the map, the table, an open head's facts.
(() => {
  const hv = window.headviz;
  const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [330, 42, 16, 14, 36]; // px
  const [DOT, WIDEST, NEAR, DRAWN] = [4, 16, 26, 1500]; // px, px, px, points
  const LISTED = [8, 20, 64];
  const PAUSE = 700; // ms after the last change of what is looked at
  const QUARTERS = [['neither', 'needed, does not write it'], ['writes it, not needed', 'writes it and is needed']];

  // What is known: `about` is what the server told of the ranking, the rest comes bit by bit.
  const known = { about: null, rows: new Map(), estimate: null, measured: {}, running: false, failed: false, texts: '' };
  const watchers = [];
  const changed = () => watchers.forEach((watcher) => watcher());

  const number = (value) => {
    const size = Math.abs(value);
    const text = size < 0.0005 ? '0' : value.toFixed(size < 0.0095 ? 3 : size < 1 ? 2 : size < 10 ? 1 : 0);
    return text.replace(/^(-?)0\./, '$1.').replace('-', '−');
  };
  const share = (value) => !known.about.share ? String(Number(value.toPrecision(3))).replace('-', '−')
    : `${Math.round(value * 100)}%`.replace('-', '−');
  const likelier = (need) => {
    const part = Math.round(Math.abs(1 - Math.exp(-need)) * 100);
    if (need > 4.6) return 'more than 99% less likely';
    return part === 0 ? 'as likely as before' : `${part}% ${need > 0 ? 'less likely' : 'likelier'}`;
  };

  // Of one head: what it writes, and what is known of what the model loses; null for no such head.
  const of = (name) => {
    const row = known.rows.get(name);
    if (!row) return null;
    const kept = known.measured[name];
    const guess = known.estimate?.[row.layer]?.[row.head] ?? null;
    const [need, low, high, side, sideLow, sideHigh, n] = kept ?? [guess, null, null, null, null, null, 0];
    const writes = row.over >= known.about.line;
    const needed = need === null ? null : need >= known.about.needed;
    const sure = Boolean(kept) && (low >= known.about.needed || high < known.about.needed);
    const quarter = needed === null ? '' : QUARTERS[Number(writes)][Number(needed)];
    return { ...row, need, low, high, side, sideLow, sideHigh, n, estimate: guess, measured: Boolean(kept), sure, quarter };
  };
  const range = (low, high) => `${number(low)} to ${number(high)}`;
  const told = (head) => {
    const begins = `${head.name}: writes ${share(head.over)} over chance`;
    if (head.need === null) return `${begins}; not measured yet`;
    if (!head.measured) return `${begins}; without it the concept's words would become about ${likelier(head.need)}: estimated, not measured`;
    const guess = head.estimate === null ? '' : `, estimated ${number(head.estimate)}`;
    return `${begins}. Without it the concept's words become ${likelier(head.need)} (${number(head.need)} nats lost, 95%: `
      + `${range(head.low, head.high)}${guess}); everything else moves by ${number(head.side)} nats. In short: ${head.quarter}`
      + `${head.sure ? '' : ', not surely'}`;
  };

  hv.effects = { known, of, told, number, listen: (watcher) => { watchers.push(watcher); watcher(); } };

  // Which of the two maps is seen.
  hv.mapSwitch = ({ element }) => element.addEventListener('click', (event) => {
    const button = event.target.closest('[data-map]');
    if (!button) return;
    document.querySelector('#heads').dataset.map = button.dataset.map;
    element.querySelectorAll('[data-map]').forEach((one) => one.setAttribute('aria-pressed', String(one === button)));
    changed();
  });

  const svg = (tag, attributes, ...children) => {
    const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
    Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
    made.append(...children);
    return made;
  };
  hv.effects.svg = svg;
  // Few heads do much and most do little: the root of a number, with its sign.
  const root = (value) => Math.sign(value) * Math.sqrt(Math.abs(value));
  const scale = (values, from, to) => {
    const [low, high] = [root(Math.min(...values)), root(Math.max(...values))];
    return (value) => from + ((root(value) - low) / (high - low || 1)) * (to - from);
  };
  const ring = (side) => DOT + 2 + Math.min(1, Math.sqrt(side)) * WIDEST;

  // The points of the map: place in pixels for each head that something is known of.
  const place = (heads, width) => {
    const xs = heads.map((head) => head.over);
    const ys = heads.map((head) => head.need).concat(heads.flatMap((head) => (head.estimate === null ? [] : [head.estimate])));
    const { line, needed } = known.about;
    const x = scale([...xs, -line / 3, line * 4], LEFT + 14, width - RIGHT);
    const y = scale([...ys, -needed / 4, needed * 4], HEIGHT - BOTTOM - 8, TOP + 10);
    return { x, y, low: Math.min(...ys), high: Math.max(...ys), right: Math.max(...xs) };
  };

  const axes = (plan, width) => {
    const { line, needed } = known.about;
    const [x0, y0, bottom, right] = [plan.x(line), plan.y(needed), HEIGHT - BOTTOM, width - RIGHT];
    const group = svg('g', { class: 'hv-axes', 'aria-hidden': 'true' },
      svg('rect', { class: 'both', x: x0, y: 0, width: Math.max(0, width - x0), height: Math.max(0, y0) }),
      svg('line', { x1: x0, x2: x0, y1: 0, y2: bottom }), svg('line', { x1: LEFT, x2: width, y1: y0, y2: y0 }));
    const text = (content, x, y, anchor = 'middle', name = '') =>
      group.append(svg('text', { x, y, 'text-anchor': anchor, class: name }, content));
    const marks = (values, at, gap) => {
      let last = -Infinity;
      return values.filter((value) => { const here = Math.abs(at(value) - at(0)) * Math.sign(value || 1); const ok = here - last > gap; if (ok) last = here; return ok; });
    };
    const xs = known.about.share ? [0, 0.03, 0.1, 0.3, 0.6] : [0, line];
    marks(xs.filter((value) => value <= plan.right * 1.15 + 0.01), plan.x, 30)
      .forEach((value) => text(share(value), plan.x(value), bottom + 14));
    const ys = [-1, -0.2, 0, 0.05, 0.2, 1, 3, 10];
    marks(ys.filter((value) => value >= plan.low * 1.1 && value <= plan.high * 1.1 + 0.05), plan.y, 13)
      .forEach((value) => text(number(value), LEFT - 6, plan.y(value) + 4, 'end'));
    text('writes it: over chance →', right, HEIGHT - 6, 'end');
    text('lost without it, nats ↑', 2, 10, 'start');
    const [top, low] = [24, bottom - 6];
    text(QUARTERS[1][1], width - 4, top - 10, 'end', 'quarter');
    text(QUARTERS[1][0], width - 4, low, 'end', 'quarter');
    // Where the left side is narrow its names stand one above the other.
    QUARTERS[0][1].split(', ').forEach((part, n) => text(part, LEFT + 4, top + 2 + n * 12, 'start', 'quarter'));
    text(QUARTERS[0][0], LEFT + 4, low, 'start', 'quarter');
    return group;
  };

  const point = (head, plan, opened, factor) => {
    const [x, y] = [plan.x(head.over), plan.y(head.need)];
    const names = ['hv-point', head.measured ? 'measured' : '', head.measured && !head.sure ? 'unsure' : '', opened ? 'opened' : ''];
    const made = svg('g', {
      class: names.filter(Boolean).join(' '), role: 'option', tabindex: -1, 'data-name': head.name,
      'aria-selected': String(opened), 'aria-label': told(head) + (factor === 1 ? '' : `, turned to ${factor}`),
    });
    if (opened && head.measured && head.estimate !== null) {
      const from = plan.y(head.estimate);
      made.append(svg('line', { class: 'guess', x1: x, x2: x, y1: from, y2: y }), svg('line', { class: 'guess', x1: x - 4, x2: x + 4, y1: from, y2: from }));
    }
    if (head.measured) made.append(svg('circle', { class: 'side', cx: x, cy: y, r: ring(head.side) }));
    made.append(svg('circle', { class: 'dot', cx: x, cy: y, r: head.measured ? DOT : DOT - 1 }));
    if (opened) made.append(svg('rect', { class: 'frame', x: x - 7, y: y - 7, width: 14, height: 14, rx: 2 }));
    if (factor !== 1) made.append(svg('text', { class: 'turned', x: x + 6, y: y - 5 }, factor < 1 ? '▼' : '▲'));
    return made;
  };

  const textsName = (name) => (name.includes(' ') ? name : `the ${name}`);

  hv.causes = ({ element, trigger, props, watch }) => {
    const make = hv.make;
    const base = element.querySelector('.hv-causes');
    const drawing = svg('svg', { class: 'hv-scatter', role: 'listbox', 'aria-label':
      'Heads: to the right, those that write the concept; to the top, those that the model needs. Arrow keys move, Enter opens.' });
    const readout = make('p', { className: 'hv-readout' });
    const legend = make('p', { className: 'hv-legend' });
    const intro = make('p', { className: 'hv-note' });
    const figure = make('div', { className: 'hv-cause' }, intro, drawing, readout, legend);
    const texts = make('select', { id: 'effect-texts', ariaLabel: 'Texts that the model goes on from' });
    const begin = make('button', { type: 'button', className: 'hv-small', id: 'measure' }, 'Measure what the model needs');
    const halt = make('button', { type: 'button', className: 'hv-small', id: 'halt' }, 'Stop');
    const controls = make('div', { className: 'hv-measure' }, begin, halt, make('label', {}, 'by what the model says to ', texts));
    const caption = make('p', { className: 'hv-note' });
    const more = make('button', { type: 'button', className: 'hv-small' });
    const table = make('table', { className: 'hv-ranked' });
    base.append(figure, controls, make('div', { className: 'hv-table-box', tabIndex: 0, role: 'group', ariaLabel: 'Table of heads' }, table), caption, more);

    let [order, listed, focused, halted, seen, timer, last] = ['rank', 0, '', false, false, 0, ''];
    const live = new Set();
    const asked = new Set();
    const open = (name) => { const head = known.rows.get(name); if (head) hv.open(head.layer, head.head); };

    // Asking for measurements.
    const edited = () => Object.entries(hv.state.ask?.heads ?? {}).filter(([, factor]) => factor !== 1).map(([name]) => name);
    const lookedAt = () => [hv.state.opened, ...edited()].filter((name) => known.rows.has(name));
    const ask = () => {
      const heads = lookedAt();
      last = JSON.stringify([known.about.key, known.texts, heads]);
      asked.clear();
      heads.forEach((name) => asked.add(name));
      Object.assign(known, { running: true, failed: false });
      trigger('measure', { key: known.about.key, texts: known.texts, heads });
      changed();
    };
    const start = () => { halted = false; live.add(known.about.model); ask(); };
    hv.measure = start;
    const missing = () => {
      if (!known.estimate) return true;
      const first = [...known.rows.values()].filter((row) => row.rank <= known.about.first).map((row) => row.name);
      return [...lookedAt(), ...first].some((name) => !(name in known.measured));
    };
    const consider = () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        if (!known.about?.measurable || !seen || halted || known.failed || !live.has(known.about.model)) return;
        if (known.running) {
          if (lookedAt().some((name) => !(name in known.measured) && !asked.has(name))) ask();
        } else if (missing() && last !== JSON.stringify([known.about.key, known.texts, lookedAt()])) ask();
      }, PAUSE);
    };
    begin.addEventListener('click', start);
    halt.addEventListener('click', () => { halted = true; halt.textContent = 'stopping …'; trigger('halt', {}); });
    texts.addEventListener('change', () => {
      Object.assign(known, { texts: texts.value, estimate: null, measured: {}, failed: false });
      live.has(known.about.model) ? start() : changed();
    });

    // The map.
    const drawMap = () => {
      const width = figure.clientWidth;
      if (!known.about || !width || !known.estimate) { drawing.replaceChildren(); return; }
      let heads = [...known.rows.keys()].map(of).filter((head) => head.need !== null && head.over !== null);
      if (heads.length > DRAWN) {
        const weight = (head) => (head.measured ? 10 : 0) + Math.abs(head.over) + Math.abs(head.need);
        heads = heads.sort((a, b) => weight(b) - weight(a)).slice(0, DRAWN);
      }
      const plan = place(heads, width);
      drawing.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
      drawing.setAttribute('height', HEIGHT);
      const { opened, ask: now } = hv.state;
      // Later ones lie above: first those that are only estimated.
      heads.sort((a, b) => a.measured - b.measured || (a.name === opened) - (b.name === opened) || b.rank - a.rank);
      const points = heads.map((head) => point(head, plan, head.name === opened, now?.heads[head.name] ?? 1));
      const had = drawing.contains(document.activeElement);
      drawing.replaceChildren(axes(plan, width), ...points);
      drawing.points = heads.map((head, n) => ({ name: head.name, x: plan.x(head.over), y: plan.y(head.need), made: points[n] }));
      const stop = drawing.points.find((one) => one.name === (focused || opened)) ?? drawing.points.at(-1);
      if (stop) { stop.made.setAttribute('tabindex', 0); if (had) stop.made.focus(); }
    };
    const say = (name) => {
      const head = name ? of(name) : null;
      readout.textContent = head ? told(head) : '';
    };
    const nearest = (event) => {
      const box = drawing.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      const far = (one) => Math.hypot(one.x - x, one.y - y);
      const found = (drawing.points ?? []).reduce((best, one) => (!best || far(one) <= far(best) ? one : best), null);
      return found && far(found) <= NEAR ? found.name : '';
    };
    drawing.addEventListener('click', (event) => { const name = nearest(event); if (name) open(name); });
    drawing.addEventListener('pointermove', (event) => say(nearest(event) || hv.state.opened));
    drawing.addEventListener('pointerleave', () => say(hv.state.opened));
    drawing.addEventListener('focusin', (event) => { focused = event.target.dataset?.name ?? ''; say(focused); });
    drawing.addEventListener('focusout', (event) => { if (event.relatedTarget && !drawing.contains(event.relatedTarget)) focused = ''; });
    drawing.addEventListener('keydown', (event) => {
      const here = drawing.points?.find((one) => one.name === event.target.dataset?.name);
      if (!here) return;
      if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); open(here.name); return; }
      const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      let next = null;
      if (event.key === 'Home' || event.key === 'End') {
        const sorted = [...drawing.points].sort((a, b) => a.x - b.x);
        next = event.key === 'Home' ? sorted[0] : sorted.at(-1);
      } else if (event.key in ways) {
        const [right, down] = ways[event.key];
        const far = (one) => {
          const [along, across] = [(one.x - here.x) * right + (one.y - here.y) * down, Math.abs((one.x - here.x) * down) + Math.abs((one.y - here.y) * right)];
          return along > 0.5 ? along + 2 * across : Infinity;
        };
        next = drawing.points.reduce((best, one) => (far(one) < (best ? far(best) : Infinity) ? one : best), null);
      } else return;
      event.preventDefault();
      if (!next) return;
      here.made.setAttribute('tabindex', -1);
      next.made.setAttribute('tabindex', 0);
      next.made.focus();
    });

    // The table, which says the same in numbers.
    const COLUMNS = [
      ['rank', '#', 'place in the ranking: by what a head writes, over chance'],
      ['', 'head', 'layer and number, both from 0'],
      ['', 'score', 'share of its variance that the concept\'s words explain'],
      ['', 'chance', 'the same for random words'],
      ['over', 'over chance', 'score minus chance: how much of the concept the head writes; below, where it lies in 95% of draws of texts and word lists'],
      ['need', 'needed', 'by how many nats the concept\'s words lose log-probability without the head: .05 makes them 5% less likely, .7 halves them; below, the 95% interval over texts. ≈: estimated by one backward pass, not measured'],
      ['side', 'side effects', 'how far everything else moves without the head: KL divergence from the unedited model in nats; below, the 95% interval over texts'],
    ];
    const small = (low, high, form) => (low === null || low === undefined ? '' : make('small', {}, `${form(low)}–${form(high)}`));
    const drawTable = () => {
      if (!known.about) { table.replaceChildren(); caption.textContent = ''; more.hidden = true; return; }
      const columns = known.about.measurable ? COLUMNS : COLUMNS.slice(0, 5);
      const heading = make('tr', {}, ...columns.map(([key, name, hint]) => {
        const cell = make('th', { scope: 'col', title: hint }, key ? make('button', { type: 'button', dataset: { order: key } }, name) : name);
        if (key) cell.setAttribute('aria-sort', order === key ? (key === 'rank' ? 'ascending' : 'descending') : 'none');
        return cell;
      }));
      const weight = { rank: (head) => -head.rank, over: (head) => head.over, need: (head) => head.need, side: (head) => head.side }[order];
      const heads = [...known.rows.keys()].map(of)
        .sort((a, b) => (weight(b) ?? -Infinity) - (weight(a) ?? -Infinity) || a.rank - b.rank).slice(0, LISTED[listed]);
      const nats = (value) => number(value);
      const rows = heads.map((head) => make('tr', { className: head.name === hv.state.opened ? 'opened' : '' },
        make('td', {}, String(head.rank)),
        make('td', {}, make('button', { type: 'button', className: 'hv-open', dataset: { layer: head.layer, head: head.head } }, head.name)),
        make('td', {}, share(head.score)), make('td', {}, share(head.chance)),
        make('td', {}, share(head.over), small(head.overLow, head.overHigh, share)),
        ...(known.about.measurable ? [
          make('td', { title: head.need === null ? 'not measured yet' : told(head) },
            head.need === null ? '–' : head.measured ? nats(head.need) : `≈ ${nats(head.need)}`, small(head.low, head.high, nats)),
          make('td', {}, head.side === null ? '–' : nats(head.side), small(head.sideLow, head.sideHigh, nats)),
        ] : [])));
      const focus = document.activeElement?.closest?.('.hv-ranked button')?.dataset;
      table.replaceChildren(make('thead', {}, heading), make('tbody', {}, ...rows));
      if (focus?.order) table.querySelector(`[data-order="${focus.order}"]`)?.focus();
      else if (focus?.layer) table.querySelector(`[data-layer="${focus.layer}"][data-head="${focus.head}"]`)?.focus();
      more.hidden = known.rows.size <= LISTED[0];
      const next = LISTED[listed + 1];
      more.textContent = next && known.rows.size > LISTED[listed] ? `The first ${Math.min(next, known.rows.size)}` : `Only ${LISTED[0]}`;
      caption.textContent = `${heads.length} of ${known.rows.size} heads.${known.told ? ` ${known.told}` : ''}`;
    };
    more.addEventListener('click', () => {
      listed = LISTED[listed + 1] && known.rows.size > LISTED[listed] ? listed + 1 : 0;
      drawTable();
    });
    table.addEventListener('click', (event) => {
      const button = event.target.closest('button');
      if (!button) return;
      if (button.dataset.order) { order = button.dataset.order; drawTable(); return; }
      hv.open(Number(button.dataset.layer), Number(button.dataset.head));
    });

    const drawLegend = () => {
      if (!known.about) return;
      intro.textContent = known.estimate
        ? 'A point is a head: to the right, the more of what it writes is about the concept; to the top, the more the concept\'s words lose without it.'
        : 'What a head writes is not yet what the model needs. Measured, each head becomes a point: what it writes against what is lost without it.';
      const key = (name, radius, text) => {
        const size = 2 * radius + 4;
        const mark = svg('svg', { width: size, height: size, 'aria-hidden': 'true', class: 'hv-scatter' }, svg('g', { class: `hv-point ${name}` },
          ...(radius > DOT ? [svg('circle', { class: 'side', cx: size / 2, cy: size / 2, r: radius })] : []),
          svg('circle', { class: 'dot', cx: size / 2, cy: size / 2, r: name ? DOT : DOT - 1 })));
        return make('span', { className: 'hv-key' }, mark, text);
      };
      legend.replaceChildren(...(known.estimate ? [
        key('measured', DOT, 'measured'), key('measured unsure', DOT, 'measured, on either side of the line'), key('', DOT, 'only estimated'),
        key('measured', ring(0.1), 'ring: side effects, here .1 nats'),
      ] : []));
    };
    const drawControls = () => {
      controls.hidden = !known.about?.measurable;
      begin.hidden = known.running || (known.estimate !== null && known.about && !missing());
      begin.textContent = known.estimate ? 'Measure the heads looked at' : 'Measure what the model needs';
      halt.hidden = !known.running;
      if (!known.running) halt.textContent = 'Stop';
    };
    const draw = () => { drawLegend(); drawMap(); drawTable(); drawControls(); say(focused || hv.state.opened); };

    const take = () => {
      const value = props.value;
      if (!value) return;
      if (value.whole) {
        known.about = value.key ? { ...value, line: 0 } : null;
        known.rows = new Map((value.heads ?? []).map(([name, rank, score, chance, over, overLow, overHigh]) => {
          const [layer, head] = name.slice(1).split('.H').map(Number);
          return [name, { name, layer, head, rank, score, chance, over, overLow, overHigh }];
        }));
        if (known.about) known.about.line = value.share ? value.writes : Math.max(...[...known.rows.values()].map((row) => row.over)) / 10;
        known.texts = value.texts ?? '';
        known.told = value.told ?? '';
        if (value.live) live.add(value.model);
        texts.replaceChildren(...(value.choices ?? []).map((name) => make('option', { value: name }, textsName(name))));
        [halted, last] = [false, ''];
        Object.assign(known, { estimate: null, measured: {}, running: false, failed: false });
      } else if (value.key !== known.about?.key || value.texts !== known.texts) return;
      const { estimate, measured, running, failed } = value;
      Object.assign(known, { estimate: estimate ?? known.estimate, measured: measured ?? {}, running: Boolean(running), failed: Boolean(failed) });
      if (value.told) known.told = value.told;
      changed();
      consider();
    };
    let before = '';
    hv.listen(({ opened, ask: now, running }) => {
      if (running && now) live.add(now.model);
      const key = JSON.stringify([opened, now?.heads, [...live]]);
      if (key === before) return;
      before = key;
      draw();
      consider();
    });
    new IntersectionObserver(([entry]) => { if (entry.isIntersecting) { seen = true; consider(); } }).observe(element);
    new ResizeObserver(drawMap).observe(figure);
    hv.effects.listen(draw);
    watch('value', take);
    take();
  };

  // The open head's facts.
  const drawHead = () => {
    const element = document.querySelector('#head');
    const head = known.about && of(element?.querySelector('#head-title')?.dataset.head ?? '');
    element?.querySelectorAll('[data-effect]').forEach((one) => {
      one.hidden = !head || !known.about.measurable;
      if (one.hidden) return;
      const value = one.querySelector('dd');
      const [now, low, high] = one.dataset.effect === 'need' ? [head.need, head.low, head.high] : [head.side, head.sideLow, head.sideHigh];
      const text = now === null || now === undefined ? '–' : `${head.measured ? '' : '≈ '}${number(now)}`;
      const guess = one.dataset.effect === 'need' && head.measured && head.estimate !== null ? `, estimated ${number(head.estimate)}` : '';
      value.replaceChildren(text, hv.make('small', {}, low === null ? '' : ` ${number(low)}–${number(high)}${guess}`));
    });
    const said = element?.querySelector('[data-told]');
    if (!said) return;
    said.dataset.told ||= said.textContent;
    said.textContent = head && head.need !== null && known.about.measurable ? `${told(head)}.` : said.dataset.told;
  };
  hv.effects.listen(drawHead);
  hv.listen(drawHead);
})();
