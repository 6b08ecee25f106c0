// The one state of the page: what is asked, the answers there are, and the way back.
// The ask is plain data (ask.py); whoever changes it calls `set`, and whoever shows it listens.
window.headviz = (() => {
  const DELAY = 300; // ms after the last change
  const TOGETHER = 1500; // ms: changes of one control that come closer are one step back
  const MOST = 60; // steps, and answers that are kept

  const state = {
    about: {}, // what the server told of model and ranking: scene.bench
    ask: null,
    past: [], // { ask, what, control, at }: what was changed, and the ask before
    future: [],
    shown: '', // the key of the answers on the page
    done: false, // whether they are complete
    running: '', // the key of what was asked last
    opened: '', // the head that is open
    known: new Map(), // key -> finished answers, as HTML
  };
  const listeners = [];
  const tell = () => listeners.forEach((listener) => listener(state));
  const listen = (listener) => { listeners.push(listener); if (state.ask) listener(state); };

  // The same text for asks that have the same answer: a factor of 1 edits nothing.
  const key = (ask) => ask && JSON.stringify([
    ask.model, ask.prompt, ask.where, ask.tokens, ask.temperature, ask.seed, ask.control_seed,
    ask.concept && [ask.concept.name, ask.concept.words], ask.pictures,
    Object.entries(ask.heads).filter(([, factor]) => factor !== 1).sort(),
  ]);

  let timer = 0;
  let trigger = () => {};
  let put = () => {};

  const run = () => {
    clearTimeout(timer);
    const wanted = key(state.ask);
    if (state.known.has(wanted)) {
      if (state.running) trigger('stop', {});
      state.running = '';
      put(state.known.get(wanted));
      return;
    }
    state.running = wanted;
    trigger('run', { ask: state.ask });
    tell();
  };
  const soon = () => { clearTimeout(timer); timer = setTimeout(run, DELAY); tell(); };
  const able = (ask) => ask.prompt.trim() || (state.about.has_vision && ask.pictures.length);

  // Change the ask. `what` says it in the list of edits, `control` what was moved.
  const set = (change, what, control) => {
    const now = performance.now();
    const last = state.past.at(-1);
    if (last && last.control === control && now - last.at < TOGETHER) {
      Object.assign(last, { what, at: now });
    } else {
      state.past.push({ ask: state.ask, what, control, at: now });
      if (state.past.length > MOST) state.past.shift();
    }
    state.future = [];
    state.ask = { ...state.ask, ...change };
    if (able(state.ask)) soon(); else tell();
  };
  const back = (steps = 1) => {
    let last = null;
    for (let n = 0; n < steps && state.past.length; n++) {
      last = state.past.pop();
      state.future.push({ ...last, ask: state.ask, before: last.ask });
      state.ask = last.ask;
    }
    if (last) run();
    tell();
  };
  const forth = () => {
    const next = state.future.pop();
    if (!next) return;
    state.past.push({ ask: state.ask, what: next.what, control: next.control, at: 0 });
    state.ask = next.ask;
    run();
    tell();
  };

  // The pictures in the box are others.
  const see = (digests) => {
    if (!state.ask || !state.about.has_vision) return;
    if (JSON.stringify(digests) !== JSON.stringify(state.ask.pictures)) {
      set({ pictures: digests }, 'the pictures', 'pictures');
    }
  };

  // The server shows another model or ranking, and what is asked there at first.
  const adopt = (about) => {
    const before = state.ask;
    const written = before && before.prompt.trim() && !state.about.examples.some(([p]) => p === before.prompt);
    state.about = about;
    state.ask = about.ask;
    state.running = '';
    // What a person wrote stays while only the concept changes.
    if (before && written && before.model === about.ask.model && !about.came) {
      state.ask = { ...about.ask, prompt: before.prompt };
    }
    state.past = [];
    state.future = [];
    tell();
    if (state.shown !== key(state.ask) && able(state.ask)) soon();
  };

  // Answers came, or went on.
  const arrived = (section, html) => {
    const data = section?.dataset ?? {};
    state.shown = data.ask ? key(JSON.parse(data.ask)) : '';
    state.done = data.state !== 'running';
    if (data.state === 'done') {
      state.known.set(state.shown, html);
      if (state.known.size > MOST) state.known.delete(state.known.keys().next().value);
    }
    if (state.done && state.shown === state.running) state.running = '';
    tell();
  };
  const failed = () => { state.running = ''; tell(); };
  const stop = () => { trigger('stop', {}); tell(); };

  document.addEventListener('keydown', (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== 'z') return;
    if (event.target.closest('textarea, input:not([type=range])')) return; // the field's own
    event.preventDefault();
    if (event.shiftKey) forth(); else back();
  });
  document.addEventListener('click', (event) => {
    if (event.target.closest('#theme')) document.body.classList.toggle('dark');
  });

  const connect = (send) => { trigger = send; };
  const connectAnswers = (write) => { put = write; };
  return {
    state, key, listen, tell, set, see, back, forth, adopt, arrived, failed, run, stop, connect,
    connectAnswers,
  };
})();
