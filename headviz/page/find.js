// The search for an edit: what is asked for, how far it is, and what came of it.
(() => {
  const hv = window.headviz;
  const [WIDTH, HEIGHT, LEFT, TOP, BOTTOM] = [330, 200, 40, 24, 30]; // px
  const [LINE, LETTER] = [13, 7]; // px, of what is written in the chart: a line's height, a letter's width
  const NAMES = {
    found: ['found', 'by this search; heads that could be put back without loss were put back'],
    pursuit: ['ranking', 'as many heads, the first of the ranking by what they write over chance'],
    attribution: ['gradient', 'as many heads, the first by the estimate of what is lost without them'],
    random: ['random', 'the same factors on random heads of the same layers: the median of the sets'],
  };
  const number = (value) => hv.effects.number(value);

  hv.find = ({ element, trigger, props, watch }) => {
    const { make } = hv;
    const svg = hv.effects.svg;
    const base = element.querySelector('.hv-find');
    const towards = make('select', { id: 'find-towards' },
      make('option', { value: 'weaker' }, 'take the concept away'), make('option', { value: 'stronger' }, 'bring it forward'));
    const heads = make('input', { id: 'find-heads', type: 'number', min: 1, max: 32, step: 1, value: 8 });
    const side = make('input', { id: 'find-side', type: 'number', min: 0.01, max: 10, step: 0.01, value: 0.1 });
    const texts = make('select', { id: 'find-texts' });
    const begin = make('button', { type: 'button', className: 'hv-small', id: 'find-begin' }, 'Find');
    const end = make('button', { type: 'button', className: 'hv-small', id: 'find-end', hidden: true }, 'Stop');
    const said = make('p', { className: 'hv-progress', role: 'status' });
    const result = make('div', { className: 'hv-find-result' });
    const field = (title, hint, input) => make('label', { title: hint }, `${title} `, input);
    const box = make('details', { id: 'find-box' },
      make('summary', {}, 'Find the smallest edit'),
      make('p', { className: 'hv-note' }, 'A search learns a factor for each head on one half of the texts, keeps the few that matter, and is judged on the other half. It takes a minute or two; answers go first meanwhile.'),
      make('div', { className: 'hv-find-fields' },
        field('that should', '', towards),
        field('heads at most', 'fewer are found where fewer do it', heads),
        field('side effect allowed', 'how far everything else may move, KL divergence in nats: .1 is little, 1 is a lot', side),
        field('on what the model says to', 'half of these texts serve the search, the other half judges it', texts), begin, end),
      said, result);
    base.append(box);

    let [running, applied, last] = [false, '', null];
    const key = () => { const { ask } = hv.state; return ask && JSON.stringify([ask.model, ask.concept?.name, ask.concept?.words]); };
    const plain = (text) => (text ? JSON.stringify(JSON.parse(text)) : '');
    const use = (edit, what) => { if (Object.keys(edit).length) hv.set({ heads: edit }, what, `find ${what}`); };
    begin.addEventListener('click', () => {
      [running, applied] = [true, ''];
      trigger('find', { towards: towards.value, heads: Number(heads.value), side_effects: Number(side.value), texts: texts.value });
      Object.assign(end, { hidden: false, textContent: 'Stop' });
      begin.hidden = true;
      said.textContent = 'starting …';
    });
    end.addEventListener('click', () => { end.textContent = 'stopping …'; trigger('end', {}); });

    // Moves names apart that would lie over one another: down below those above, then up from the axis.
    const apart = (names) => {
      names.sort((one, other) => one.y - other.y);
      const over = (one, other) => one.left < other.right && other.left < one.right;
      names.forEach((one, n) => names.slice(0, n).filter((other) => over(one, other)).forEach((other) => { one.y = Math.max(one.y, other.y + LINE); }));
      [...names.entries()].reverse().forEach(([n, one]) => {
        const below = names.slice(n + 1).filter((other) => over(one, other)).map((other) => other.y - LINE);
        one.y = Math.min(one.y, HEIGHT - BOTTOM - 2, ...below);
      });
      return names;
    };

    // Effect against side effect: every step on the texts it read, at the end the held-out texts.
    const curve = ({ curve: steps, search, found }) => {
      const judged = found ? found.rows.map((row) => [search.towards === 'weaker' ? row.need[0] : -row.need[0], row.side[0]]) : [];
      const shown = [...(found ? [] : steps), ...judged, ...(found?.random ?? [])];
      const [most, far] = [Math.max(0.5, ...shown.map(([gain]) => gain)), Math.max(search.side_effects * 1.6, ...shown.map(([, moved]) => moved))];
      const least = Math.min(0, ...shown.map(([gain]) => gain));
      const x = (moved) => LEFT + Math.sqrt(Math.max(moved, 0) / far) * (WIDTH - LEFT - 12);
      const y = (gain) => TOP + ((most - gain) / (most - least)) * (HEIGHT - BOTTOM - TOP - 8);
      const text = (content, at, down, anchor = 'middle') => svg('text', { x: at, y: down, 'text-anchor': anchor }, content);
      const limit = x(search.side_effects);
      const made = svg('svg', { class: 'hv-curve', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, role: 'img', 'aria-label':
        `Effect against side effect: ${found ? 'the found edit and its rivals on held-out texts' : `${steps.length} steps so far`}` },
        svg('g', { class: 'hv-axes' },
          svg('line', { x1: limit, x2: limit, y1: TOP - 8, y2: HEIGHT - BOTTOM }), svg('line', { x1: LEFT, x2: WIDTH, y1: y(0), y2: y(0) }),
          text('side effect, nats →', WIDTH, HEIGHT - 4, 'end'),
          text(search.towards === 'weaker' ? 'lost, nats ↑' : 'gained, nats ↑', LEFT + 4, 10, 'start'), text('0', x(0), HEIGHT - BOTTOM + 12),
          // to the right of its line: centered, it lay over the 0 where a rival's side effects are far out
          text(`${number(search.side_effects)} allowed`, limit, HEIGHT - BOTTOM + 12, 'start'),
          ...[most, least].filter((end) => Math.abs(y(end) - y(0)) >= LINE).map((end) => text(number(end), LEFT - 4, y(end) + 4, 'end')),
          text('0', LEFT - 4, y(0) + 4, 'end')));
      if (!found) {
        if (steps.length > 1) made.append(svg('polyline', { class: 'path', points: steps.map(([gain, moved]) => `${x(moved)},${y(gain)}`).join(' ') }));
        steps.forEach(([gain, moved], n) => made.append(svg('circle', { class: n === steps.length - 1 ? 'last' : 'step', cx: x(moved), cy: y(gain), r: n === steps.length - 1 ? 5 : 2.5 })));
      } else {
        found.random.forEach(([gain, moved]) => made.append(svg('circle', { class: 'random', cx: x(moved), cy: y(gain), r: 2.5 })));
        const names = found.rows.map((row, n) => {
          const [gain, moved] = judged[n];
          made.append(row.name === 'found' ? svg('circle', { class: 'last', cx: x(moved), cy: y(gain), r: 6 })
            : svg('rect', { class: 'rival', x: x(moved) - 4, y: y(gain) - 4, width: 8, height: 8 }));
          const name = NAMES[row.name]?.[0] ?? row.name;
          const [before, wide] = [x(moved) > WIDTH - 70, name.length * LETTER];
          const at = x(moved) + (before ? -8 : 8);
          return { name, at, y: y(gain) + 4, anchor: before ? 'end' : 'start', left: before ? at - wide : at, right: before ? at : at + wide };
        });
        made.append(...apart(names).map((one) => svg('text', { class: 'name', x: one.at, y: one.y, 'text-anchor': one.anchor }, one.name)));
      }
      return made;
    };
    const chips = (edit) => Object.entries(edit).map(([name, factor]) => `${name} ${String(factor).replace('-', '−')}`).join(', ');
    const judged = ({ found, search }) => {
      const sign = search.towards === 'weaker' ? 1 : -1;
      const both = ([value, low, high], flip = 1) => [number(flip * value), make('small', {}, `${number(Math.min(flip * low, flip * high))} to ${number(Math.max(flip * low, flip * high))}`)];
      const row = (name, count, gain, moved, edit) => make('tr', {},
        make('th', { scope: 'row', title: NAMES[name]?.[1] ?? '' }, NAMES[name]?.[0] ?? name), make('td', {}, count), make('td', {}, ...gain), make('td', {}, ...moved),
        make('td', {}, ...(edit ? [make('button', { type: 'button', className: 'hv-small', dataset: { use: name }, ariaLabel: `Use the edit: ${NAMES[name]?.[0] ?? name}` }, 'use')] : [])));
      const n = String(Object.keys(found.rows[0].edit).length);
      return make('table', { className: 'hv-ranked hv-judged' },
        make('caption', {}, `On held-out texts, which the search has not seen: ${found.places} ${sign === 1 ? 'words of the concept' : 'places where a word of the concept might come'}.`),
        make('thead', {}, make('tr', {}, ...['chosen by', 'heads', sign === 1 ? 'lost, nats' : 'gained, nats', 'side effects'].map((title) => make('th', { scope: 'col' }, title)), make('td', {}))),
        make('tbody', {}, ...found.rows.map((one) => row(one.name, String(Object.keys(one.edit).length), both(one.need, sign), both(one.side), one.edit)),
          row('random', n, [number(found.random_gain), make('small', {}, `median of ${found.random.length} sets`)], [number(found.random_side)], null)));
    };
    result.addEventListener('click', (event) => {
      const button = event.target.closest('[data-use]');
      const row = button && last?.found?.rows.find((one) => one.name === button.dataset.use);
      if (row) use(row.edit, `${NAMES[row.name]?.[0] ?? row.name}: ${Object.keys(row.edit).length} heads`);
    });

    const take = () => {
      const value = props.value;
      if (!value?.stamp) return;
      last = value;
      running = value.running;
      [begin.hidden, end.hidden] = [running, !running];
      if (running && value.stopping) end.textContent = 'stopping …';
      if (value.failed) { said.replaceChildren(make('span', { className: 'hv-error', role: 'alert' }, value.failed)); result.replaceChildren(); return; }
      const n = Object.keys(value.edit).length;
      const left = value.left ? ` · ${Math.max(1, Math.round(value.left))} s left` : '';
      said.replaceChildren();
      if (running) said.append(make('progress', { value: value.share, ariaLabel: 'done' }), `${value.what || 'starting'}${left}`);
      else if (value.stopped) said.append(n ? `Stopped: the best of ${value.curve.length} steps, ${n} heads, not judged on other texts.` : 'Stopped before the first step.');
      else said.append(`Found: ${n} head${n === 1 ? '' : 's'}. It is the edit of the page now.`);
      const code = make('details', {}, make('summary', {}, 'In Python'), make('pre', {}, make('code', {}, value.code)));
      result.replaceChildren(...(value.curve.length ? [curve(value)] : []), make('div', {},
        ...(n ? [make('p', { className: 'hv-note', id: 'find-best' }, `${value.found ? 'Found' : 'The best so far'}: ${chips(value.edit)}`)] : []),
        ...(value.found ? [make('div', { className: 'hv-table-box' }, judged(value))] : []), ...(running ? [] : [code])));
      const ended = !running && n && applied !== value.stamp;
      if (ended && plain(value.key) === key()) { applied = value.stamp; use(value.edit, `found: ${n} heads`); }
      else if (ended) said.textContent = 'Found, for what the page showed before: use it below, or search anew.';
    };
    hv.effects.listen(() => {
      const about = hv.effects.known.about;
      element.hidden = !about?.measurable;
      const names = about?.choices ?? [];
      if (names.join() === [...texts.options].map((one) => one.value).join()) return;
      texts.replaceChildren(...names.map((name) => make('option', { value: name }, name)));
    });
    watch('value', take);
    take();
  };
})();
