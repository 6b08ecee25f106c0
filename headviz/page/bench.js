// The question, the answers and the knob: what stands between the visitor's hands and the state.
(() => {
  const hv = window.headviz;
  const [LOWEST, HIGHEST, DOWN, UP, MOST] = [-3, 8, -1, 3, 32];
  const KNOB = 16; // px wide
  const minus = (number) => String(number).replace('-', '−');

  // An element with properties and children; texts are set as texts, never as HTML.
  const make = (tag, properties = {}, ...children) => {
    const { dataset, style, aria, ...plain } = properties;
    const made = Object.assign(document.createElement(tag), plain);
    Object.assign(made.dataset, dataset);
    Object.entries(aria ?? {}).forEach(([name, value]) => made.setAttribute(`aria-${name}`, value));
    made.append(...children);
    return made;
  };

  hv.make = make;

  hv.bench = ({ element, trigger, props, watch }) => {
    hv.connect(trigger);
    const root = element.querySelector('.hv-bench');
    const prompt = make('textarea', { id: 'prompt', rows: 2, spellcheck: false });
    const examples = make('select', { id: 'examples-menu', ariaLabel: 'Another question' });
    const clearest = make('p', { className: 'hv-note', id: 'clearest' });
    const number = (id, label, min, max, step) => {
      const input = make('input', { id, type: 'number', min, max, step });
      return { input, box: make('label', {}, label, input) };
    };
    const tokens = number('tokens', 'Tokens at most', 1, 2048, 1);
    const temperature = number('temperature', 'Temperature', 0, 10, 0.1);
    const seed = number('seed', 'Seed', 0, 2 ** 32, 1);
    const controlSeed = number('control-seed', 'Which random heads', 0, 2 ** 32, 1);
    const summary = make('summary', {});
    const sampling = make('details', { id: 'sampling' }, summary,
      make('div', { className: 'hv-fields' },
        tokens.box, temperature.box, seed.box, controlSeed.box));

    const range = make('input', { id: 'alpha', type: 'range', min: LOWEST, max: HIGHEST, step: 0.1 });
    range.setAttribute('aria-describedby', 'curve-told');
    const output = make('output', { id: 'alpha-value', htmlFor: 'alpha' });
    const who = make('label', { htmlFor: 'alpha', id: 'who' });
    const button = (id, text, title) => make('button', { type: 'button', id, title }, text);
    const fewer = button('fewer', '−', 'one head less');
    const more = button('more', '+', 'the next head of the ranking too');
    fewer.setAttribute('aria-label', 'One head less');
    more.setAttribute('aria-label', 'One head more');
    const down = button('down', 'Turn down', `α = ${minus(DOWN)}: the heads work against what they wrote`);
    const up = button('up', 'Bring forward', `α = ${UP}: the heads write ${UP} times as strongly`);
    const reset = button('reset', 'Reset', 'α = 1: the model as it is');
    const every = button('every', 'Every α', 'The same sentence at every α from −3 to 8, beside the control');
    const undo = button('undo', '↶', 'Back one step (Ctrl+Z)');
    const list = button('edits', '', 'The edits made so far');
    const hold = button('hold', 'Hold: original', 'While this button or the key O is held, the original stands in place of the edited text');
    const again = button('again', 'Again', 'Answer anew');
    const stop = button('stop', 'Stop', 'End the answer here');
    const chips = make('ul', { className: 'hv-heads', ariaLabel: 'Heads that are turned' });
    const one = make('div', { className: 'hv-one', hidden: true });
    const history = make('ol', { id: 'history', hidden: true });
    const where = make('select', { id: 'where', ariaLabel: 'Where the edit holds' });
    const whereTold = make('p', { className: 'hv-note', id: 'where-told' });

    root.append(
      make('div', { className: 'hv-ask' },
        make('label', { htmlFor: 'prompt', className: 'hv-label' }, 'Question'),
        prompt,
        make('div', { className: 'hv-ask-side' }, examples, sampling)),
      make('div', { className: 'hv-knob', role: 'group', ariaLabel: 'Turn the heads' },
        make('div', { className: 'hv-count' }, fewer, who, more),
        make('div', { className: 'hv-slide' }, range,
          make('div', { className: 'hv-ticks', ariaHidden: 'true' },
            ...[-1, 0, 1, 3].map((at) => {
              const tick = make('span', {}, minus(at));
              // The knob's middle runs from half its width to half its width before the end.
              const share = (at - LOWEST) / (HIGHEST - LOWEST);
              tick.style.left = `calc(${share * 100}% + ${(0.5 - share) * KNOB}px)`;
              return tick;
            }))),
        output,
        make('div', { className: 'hv-buttons' }, down, up, reset),
        make('div', { className: 'hv-buttons hv-tools' }, hold, every, undo, list, again, stop)),
      hv.besideBar(), clearest, chips, one, history,
      make('div', { className: 'hv-where' }, where, whereTold),
    );

    let single = ''; // the head whose own slider is shown
    const factors = () => Object.values(hv.state.ask.heads);
    const setAll = (factor, control, wait) => {
      const names = Object.keys(hv.state.ask.heads);
      hv.set({ heads: Object.fromEntries(names.map((name) => [name, factor])) },
        `all heads → ${minus(factor)}`, control, wait);
    };
    hv.setAll = setAll;
    const setOne = (name, factor, control) => hv.set(
      { heads: { ...hv.state.ask.heads, [name]: factor } }, `${name} → ${minus(factor)}`, control);
    const add = (name) => {
      if (!name || name in hv.state.ask.heads || Object.keys(hv.state.ask.heads).length >= MOST) return;
      const all = factors();
      const factor = all.length && all.every((f) => f === all[0]) ? all[0] : DOWN;
      setOne(name, factor === 1 ? DOWN : factor, `add ${name}`);
    };
    const remove = (name) => {
      const { [name]: gone, ...heads } = hv.state.ask.heads;
      hv.set({ heads }, `without ${name}`, `remove ${name}`);
    };
    Object.assign(hv, { add, remove });

    prompt.addEventListener('input', () => hv.set({ prompt: prompt.value }, 'the question', 'prompt'));
    examples.addEventListener('change', () => {
      const picked = hv.state.about.examples[Number(examples.value)];
      if (picked) hv.set({ prompt: picked[0] }, 'another question', 'example');
      examples.value = '';
    });
    const numeric = (field, name, what) => field.input.addEventListener('input', () => {
      if (field.input.value === '' || !field.input.validity.valid) return;
      hv.set({ [name]: Number(field.input.value) }, `${what} → ${field.input.value}`, name);
    });
    numeric(tokens, 'tokens', 'tokens');
    numeric(temperature, 'temperature', 'temperature');
    numeric(seed, 'seed', 'seed');
    numeric(controlSeed, 'control_seed', 'random heads');
    range.addEventListener('input', () => setAll(Number(range.value), 'alpha'));
    range.addEventListener('dblclick', () => setAll(1, 'reset', 0));
    range.addEventListener('pointerup', () => hv.now());
    down.addEventListener('click', () => setAll(DOWN, 'down', 0));
    up.addEventListener('click', () => setAll(UP, 'up', 0));
    reset.addEventListener('click', () => setAll(1, 'reset', 0));
    every.addEventListener('click', () => hv.askRibbon());
    undo.addEventListener('click', () => hv.back());
    again.addEventListener('click', () => { hv.state.known.delete(hv.key(hv.state.ask)); hv.run(); });
    stop.addEventListener('click', () => { stop.textContent = 'stopping …'; hv.stop(); });
    fewer.addEventListener('click', () => {
      const names = Object.keys(hv.state.ask.heads);
      if (names.length) remove(names.at(-1));
    });
    more.addEventListener('click', () =>
      add(hv.state.about.top.find((name) => !(name in hv.state.ask.heads))));
    list.addEventListener('click', () => { history.hidden = !history.hidden; draw(hv.state); });
    where.addEventListener('change', () =>
      hv.set({ where: where.value }, `holds ${where.value}`, 'where'));
    history.addEventListener('click', (event) => {
      const button = event.target.closest('button');
      if (button?.dataset.steps) hv.back(Number(button.dataset.steps));
      if (button?.dataset.beside) {
        hv.setBeside(hv.state.past[Number(button.dataset.beside)].ask);
        hv.leaveBeside.focus();
        document.querySelector('#answers').scrollIntoView({ block: 'nearest' });
      }
    });
    chips.addEventListener('click', (event) => {
      const target = event.target.closest('button');
      if (!target) return;
      if (target.dataset.remove) remove(target.dataset.remove);
      else if (target.dataset.add) add(target.dataset.add);
      else { single = single === target.dataset.one ? '' : target.dataset.one; draw(hv.state); }
    });

    const drawChips = (ask) => {
      const focus = document.activeElement?.closest?.('.hv-heads button')?.dataset;
      chips.replaceChildren(...Object.entries(ask.heads).map(([name, factor]) => make('li', {},
        make('button', { type: 'button', className: 'hv-chip', dataset: { one: name }, aria: { expanded: single === name } },
          make('b', {}, name), ` ${minus(factor)}${factor === 1 ? ' (as it is)' : ''}`),
        make('button', { type: 'button', className: 'hv-x', ariaLabel: `Leave ${name} out`, dataset: { remove: name } }, '×'))));
      if (!Object.keys(ask.heads).length) chips.append(make('li', { className: 'hv-note' }, 'no head is turned'));
      const opened = hv.state.opened;
      if (opened && !(opened in ask.heads)) {
        chips.append(make('li', {}, make('button', { type: 'button', className: 'hv-chip hv-add', dataset: { add: opened } }, `+ ${opened}, which is open`)));
      }
      // Drawn anew, the list keeps the focus, where its button is gone on another one.
      const same = ([what, name]) => chips.querySelector(`[data-${what}="${name}"]`);
      if (focus) (Object.entries(focus).map(same)[0] ?? chips.querySelector('button') ?? more).focus();
    };
    const drawOne = (ask) => {
      one.hidden = !(single in ask.heads);
      if (one.hidden) { single = ''; one.replaceChildren(); return; }
      let slider = one.querySelector('input');
      if (one.dataset.head !== single) {
        one.dataset.head = single;
        slider = make('input', { id: 'alpha-one', type: 'range', min: LOWEST, max: HIGHEST, step: 0.1 });
        slider.addEventListener('input', () => setOne(one.dataset.head, Number(slider.value), `one ${one.dataset.head}`));
        slider.addEventListener('pointerup', () => hv.now());
        slider.addEventListener('dblclick', () => setOne(one.dataset.head, 1, `one ${one.dataset.head}`));
        one.replaceChildren(make('label', { htmlFor: 'alpha-one' }, `${single} alone`), slider, make('output', { htmlFor: 'alpha-one' }));
      }
      slider.value = ask.heads[single];
      one.querySelector('output').textContent = minus(ask.heads[single]);
    };
    let listed = '';
    const drawHistory = (state) => {
      list.textContent = state.past.length ? `${state.past.length} edit${state.past.length > 1 ? 's' : ''}` : '';
      list.hidden = !state.past.length;
      list.setAttribute('aria-expanded', String(!history.hidden));
      undo.disabled = !state.past.length;
      if (!state.past.length) history.hidden = true;
      const able = state.past.map((step) => hv.alike(step.ask) && hv.key(step.ask) !== hv.key(state.ask));
      const now = JSON.stringify([state.past.map((step) => step.what), able]);
      if (now === listed) return; // whoever is in the list stays there
      listed = now;
      history.replaceChildren(...state.past.map((step, number) => make('li', {}, `${step.what} `,
        ...(able[number] ? [make('button', { type: 'button', dataset: { beside: number } }, 'compare with before this'), ' '] : []),
        make('button', { type: 'button', dataset: { steps: state.past.length - number } }, 'back to before this'))).reverse());
    };
    const value = (input, wanted) => { if (document.activeElement !== input && input.value !== String(wanted)) input.value = wanted; };

    const draw = (state) => {
      const { ask, about } = state;
      value(prompt, ask.prompt);
      prompt.placeholder = about.usual;
      const best = about.clearest;
      clearest.textContent = best?.ask && hv.key(best.ask) === hv.key(ask) ? best.told : '';
      value(tokens.input, ask.tokens);
      value(temperature.input, ask.temperature);
      value(seed.input, ask.seed);
      value(controlSeed.input, ask.control_seed);
      const how = ask.temperature ? `temperature ${ask.temperature}, seed ${ask.seed}` : 'the likeliest each time';
      summary.textContent = `${ask.tokens} tokens · ${how}`;
      sampling.hidden = !about.writes;
      const all = factors();
      const even = all.every((factor) => factor === all[0]);
      const turned = all.filter((factor) => factor !== 1).length;
      const mean = all.length ? all.reduce((sum, factor) => sum + factor, 0) / all.length : 1;
      range.disabled = down.disabled = up.disabled = reset.disabled = !all.length;
      if (Number(range.value) !== mean) range.value = mean;
      const text = !all.length ? '–' : even ? `α = ${minus(all[0])}` : `${minus(Math.min(...all))} to ${minus(Math.max(...all))}`;
      output.textContent = text;
      range.setAttribute('aria-valuetext', text);
      who.textContent = `${all.length} head${all.length === 1 ? '' : 's'}${!all.length || turned ? '' : all.length === 1 ? ', as it is' : ', as they are'}`;
      more.disabled = all.length >= MOST || !about.top.some((name) => !(name in ask.heads));
      fewer.disabled = !all.length;
      every.hidden = !about.writes || ask.pictures.length > 1;
      every.disabled = !all.length;
      stop.hidden = !state.running;
      again.hidden = Boolean(state.running);
      if (!state.running) stop.textContent = 'Stop';
      if (where.value !== ask.where) where.value = ask.where;
      where.parentElement.hidden = !about.writes;
      whereTold.textContent = [about.places[ask.where], about.told[ask.where]].filter(Boolean).join('. ');
      drawChips(ask);
      drawOne(ask);
      drawHistory(state);
    };
    const fill = (about) => {
      about.known.forEach((html) => {
        const section = new DOMParser().parseFromString(html, 'text/html').querySelector('[data-ask]');
        hv.state.known.set(hv.key(JSON.parse(section.dataset.ask)), html);
      });
      const menu = [make('option', { value: '' }, 'Examples')];
      about.examples.forEach(([text, concept], n) => {
        const end = text.length > 70 ? `… ${text.slice(-66)}` : text;
        menu.push(make('option', { value: n }, `${concept}: ${end}`));
      });
      examples.replaceChildren(...menu);
      examples.hidden = !about.examples.length;
      where.replaceChildren(...Object.keys(about.places).map((name) => make('option', { value: name },
        name === 'everywhere' ? 'holds everywhere' : `holds on ${name === 'image' ? 'the picture' : name === 'prompt' ? 'the question' : 'the answer'} only`)));
    };
    const take = () => { if (props.value) { fill(props.value); hv.adopt(props.value); } };
    hv.listen(draw);
    watch('value', take);
    take();

    // The original in place of the edited text, for as long as it is held.
    const holding = (on) => {
      if (hv.state.holding === on) return;
      hv.state.holding = on;
      hold.setAttribute('aria-pressed', String(on));
      hv.tell();
    };
    const writes = (target) => target.closest?.('textarea, select, input:not([type=range]), [contenteditable]');
    hold.addEventListener('pointerdown', () => holding(true));
    ['pointerup', 'pointercancel'].forEach((name) => document.addEventListener(name, () => holding(false)));
    hold.addEventListener('contextmenu', (event) => event.preventDefault()); // a long touch
    const holds = (event) => event.key.toLowerCase() === 'o' ? !writes(event.target)
      : event.target === hold && [' ', 'Enter'].includes(event.key);
    document.addEventListener('keydown', (event) => {
      if (!holds(event) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      holding(true);
    });
    document.addEventListener('keyup', (event) => { if (holds(event)) holding(false); });
    window.addEventListener('blur', () => holding(false));
  };

  hv.answers = ({ element, props, watch }) => {
    const take = () => hv.arrived(element.querySelector('.hv-answers'), props.value);
    // A copy of the original's text stands beside the edited one, which the style hides.
    const showOriginal = (section, on) => {
      const [original, edited] = ['original', 'edited'].map((name) => section.querySelector(`.${name} .hv-text`));
      edited?.parentElement.classList.toggle('hv-held', on);
      const copy = edited?.parentElement.querySelector('.hv-copy');
      if (!on || !original || !edited) { copy?.remove(); return; }
      const fresh = copy ?? make('div', { className: 'hv-copy', role: 'status', ariaLabel: 'Original' });
      if (fresh.textContent !== original.textContent) fresh.textContent = original.textContent;
      if (!copy) edited.after(fresh);
    };
    element.addEventListener('click', (event) => {
      if (event.target.closest('[data-anew]')) hv.set({ earlier: [] }, 'from the start', 'anew', 0);
    });
    hv.connectAnswers((html) => { props.value = html; setTimeout(take); });
    const draw = (state) => {
      const section = element.querySelector('.hv-answers');
      if (!section || !state.ask) return;
      const stale = Boolean(state.shown) && state.shown !== hv.key(state.ask) && !state.turning;
      showOriginal(section, state.holding);
      hv.drawBeside(section, state);
      element.classList.toggle('hv-stale', stale);
      let told = element.querySelector(':scope > .hv-stale-told');
      if (!told) { told = make('p', { className: 'hv-stale-told', role: 'status' }); element.append(told); }
      const text = !stale ? '' : state.running ? 'These answers are of before the change; the new ones are coming.'
        : 'These answers are of before the change.';
      if (told.textContent !== text) told.textContent = text;
    };
    hv.listen(draw);
    watch('value', take);
    take();
  };

  // The sentence at every factor: it is of one question and one choice of heads, and goes with them.
  hv.ribbon = ({ element, trigger, watch }) => {
    const same = (ask) => hv.key({ ...ask, heads: Object.fromEntries(Object.keys(ask.heads).map((name) => [name, 0])) });
    hv.askRibbon = () => trigger('ribbon', { ask: hv.state.ask });
    const draw = ({ ask }) => {
      const shown = element.querySelector('.hv-ribbon');
      if (shown && ask) shown.hidden = same(JSON.parse(shown.dataset.ask)) !== same(ask);
      element.querySelectorAll('tr').forEach((row) => {
        const alpha = Number(row.querySelector('[data-alpha]')?.dataset.alpha);
        const here = ask && Object.values(ask.heads).every((factor) => factor === alpha);
        row.toggleAttribute('aria-current', Boolean(here));
      });
    };
    element.addEventListener('click', (event) => {
      const button = event.target.closest('[data-alpha]');
      if (button) hv.setAll(Number(button.dataset.alpha), 'ribbon');
    });
    watch('value', () => draw(hv.state));
    hv.listen(draw);
  };

  // An error is of what was asked then: it stays until the next change and goes with it. A run that
  // was ended may send a last word after it, or after the answer that took its place.
  hv.said = ({ element, props, watch }) => {
    let failed = null; // { key, html }
    watch('value', () => {
      hv.hear();
      const { state } = hv;
      const late = !state.running && (failed || element.querySelector('.hv-progress'));
      if (element.querySelector('.hv-error')) {
        failed = { key: hv.key(state.ask), html: props.value };
        hv.failed();
      } else if (late) {
        props.value = failed?.html ?? '';
      }
    });
    hv.listen(({ ask }) => {
      if (failed && failed.key !== hv.key(ask)) { failed = null; props.value = ''; }
    });
  };
  hv.headline = ({ element }) => element.addEventListener('click', (event) => {
    const button = event.target.closest('#change');
    if (!button) return;
    const open = document.querySelector('#drawer').classList.toggle('hv-open');
    button.setAttribute('aria-expanded', String(open));
  });
})();
