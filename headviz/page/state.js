// The one state of the page: what is asked, the answers there are, and the way back.
// The ask is plain data (ask.py); whoever changes it calls `set`, and whoever shows it listens.
window.headviz = (() => {
  const DELAY = 300; // ms after the last change
  const BEAT = 60; // ms between two words to the server of a slider that is being moved
  const TOGETHER = 1500; // ms: changes of one control that come closer are one step back
  const MOST = 60; // steps, and answers that are kept
  const JUST = 1000; // ms between an event and the end of the stream that may have missed it
  const SILENCE = 8000; // ms without a word from the server, after which it is asked what became of it

  const state = {
    about: {}, // what the server told of model and ranking: scene.bench
    ask: null,
    past: [], // { ask, what, control, at }: what was changed, and the ask before
    future: [],
    shown: '', // the key of the answers on the page
    done: false, // whether they are complete
    running: '', // the key of what is being written, as it began
    asked: null, // what the answers on the page belong to
    open: false, // whether the edited text on the page still grows
    turning: false, // whether the knob was turned and the text has not come to it yet
    holding: false, // whether the original is shown in place of the edited text
    opened: '', // the head that is open
    beside: null, // the ask of an earlier edit that stands beside the present one
    known: new Map(), // key -> finished answers, as HTML
  };
  const listeners = [];
  const tell = () => {
    if (state.beside && !alike(state.beside)) state.beside = null;
    listeners.forEach((listener) => listener(state));
  };
  const listen = (listener) => { listeners.push(listener); if (state.ask) listener(state); };

  const turned = (heads) => Object.entries(heads).filter(([, factor]) => factor !== 1).sort();
  // The same text for asks that have the same answer: a factor of 1 edits nothing.
  const key = (ask) => ask && JSON.stringify([
    ask.model, ask.prompt, ask.where, ask.tokens, ask.temperature, ask.seed, ask.control_seed,
    ask.concept && [ask.concept.name, ask.concept.words], ask.pictures, ask.chat,
    turned(ask.heads), (ask.earlier ?? []).map((stretch) => [stretch.tokens, turned(stretch.heads)]),
  ]);
  // Whether an ask has the original of the present one, and its answer is known.
  const question = (ask) => key({ ...ask, heads: {}, earlier: [], where: '', control_seed: 0 });
  const alike = (ask) => state.known.has(key(ask)) && question(ask) === question(state.ask);
  const setBeside = (ask) => { state.beside = ask; tell(); };
  // What an answer began as, before the knob was turned.
  const origin = (ask) => ({ ...ask, heads: (ask.earlier?.[0] ?? ask).heads, earlier: [] });

  let timer = 0;
  let turnTimer = 0;
  let sent = 0; // runs and turns, so that the server knows which came last
  let gesture = 0; // movements of one control
  let runGesture = 0; // the one that had the answer written that is being written
  let heard = 0; // when the server last said something of the answer
  let trigger = () => {};
  let put = () => {};

  const run = () => {
    clearTimeout(timer);
    clearTimeout(turnTimer);
    timer = turnTimer = 0;
    state.turning = false;
    const wanted = key(state.ask);
    if (state.known.has(wanted)) {
      if (state.running) trigger('stop', {});
      state.running = '';
      put(state.known.get(wanted));
      return;
    }
    state.running = key(origin(state.ask));
    runGesture = gesture;
    heard = performance.now();
    trigger('run', { ask: state.ask, number: ++sent });
    tell();
  };
  const soon = (wait = DELAY) => {
    clearTimeout(timer);
    if (wait) timer = setTimeout(run, wait); else run();
    tell();
  };
  // A control was let go: what was changed needs no more time.
  const now = () => { if (timer) run(); };

  // An answer that is being written goes on under the hand that takes the knob: from the next word
  // on with the new factors. Not where that very movement had it written: then it begins anew.
  const goesOn = (change) => Boolean(
    state.running && state.open && !timer && gesture !== runGesture
    && Object.keys(change).join() === 'heads' && !['prompt', 'image'].includes(state.ask.where)
    && state.ask.pictures.length < 2 && key(origin(state.asked)) === state.running);
  const turn = () => {
    state.turning = true;
    turnTimer ||= setTimeout(() => {
      turnTimer = 0;
      trigger('turn', { ask: state.ask, number: ++sent });
    }, BEAT);
    tell();
  };
  const able = (ask) => ask.prompt.trim() || (state.about.has_vision && ask.pictures.length);

  // Change the ask. `what` says it in the list of edits, `control` what was moved; `wait` ms more
  // changes may follow.
  const set = (change, what, control, wait = DELAY) => {
    const at = performance.now();
    const last = state.past.at(-1);
    const same = Boolean(last && last.control === control && at - last.at < TOGETHER);
    if (!same) gesture += 1;
    const on = goesOn(change);
    const told = on ? `${what}, while it was written` : what;
    if (same) {
      Object.assign(last, { what: told, at });
    } else {
      state.past.push({ ask: state.ask, what: told, control, at });
      if (state.past.length > MOST) state.past.shift();
    }
    state.future = [];
    state.ask = { ...state.ask, ...(on ? {} : { earlier: [] }), ...change };
    if (on) { turn(); return; }
    state.turning = false;
    if (able(state.ask)) soon(wait); else tell();
  };
  const back = (steps = 1) => {
    let last = null;
    for (let n = 0; n < steps && state.past.length; n++) {
      last = state.past.pop();
      state.future.push({ ...last, ask: state.ask, before: last.ask });
      state.ask = last.ask;
    }
    gesture += 1;
    if (last) run();
    tell();
  };
  const forth = () => {
    const next = state.future.pop();
    if (!next) return;
    state.past.push({ ask: state.ask, what: next.what, control: next.control, at: 0 });
    state.ask = next.ask;
    gesture += 1;
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
    if (about.more && before?.model === about.ask.model) { // it came to be loaded; nothing else changed
      state.about = about;
      tell();
      return;
    }
    const written = before && before.prompt.trim() && !state.about.examples.some(([p]) => p === before.prompt);
    state.about = about;
    state.ask = about.ask;
    state.running = '';
    // What a person wrote stays while only the concept changes, and how it is put to the model.
    if (before && before.model === about.ask.model && !about.came) {
      state.ask = { ...about.ask, chat: before.chat, prompt: written ? before.prompt : about.ask.prompt };
    }
    state.past = [];
    state.future = [];
    tell();
    if (state.shown !== key(state.ask) && able(state.ask)) soon();
  };

  // gradio's server ends a tab's stream of messages once nothing is left to be told. Of an event that
  // it takes at that moment nobody is told: the browser, which has not heard of the end, opens no other
  // stream for it. Whatever is asked next has all of it handed over, so something is asked.
  const { fetch } = window;
  let taken = -Infinity; // when the server last took an event
  const ended = () => { if (performance.now() - taken < JUST) trigger('pulse', { pulse: true }); };
  window.fetch = async (...sent) => {
    const [to, options] = sent;
    const url = String(to.url ?? to);
    if (url.includes('/queue/data')) to.signal?.addEventListener('abort', ended);
    const answer = await fetch(...sent);
    if (url.includes('/queue/join') && !String(options?.body).includes('"pulse"')) taken = performance.now();
    return answer;
  };

  const hear = () => { heard = performance.now(); };
  setInterval(() => {
    if (!state.running || performance.now() - heard < SILENCE) return;
    hear();
    trigger('missed', { ask: state.ask, number: ++sent });
  }, 1000);

  // Answers came, or went on.
  const arrived = (section, html) => {
    hear();
    const data = section?.dataset ?? {};
    state.asked = data.ask ? JSON.parse(data.ask) : null;
    state.shown = state.asked ? key(state.asked) : '';
    state.done = data.state !== 'running';
    state.open = Boolean(section?.querySelector('.edited[data-open]'));
    if (data.state === 'done') {
      state.known.set(state.shown, html);
      if (state.known.size > MOST) state.known.delete(state.known.keys().next().value);
    }
    const own = Boolean(state.running) && Boolean(state.asked) && key(origin(state.asked)) === state.running;
    const there = { ...state.ask, earlier: state.asked?.earlier };
    if (own && state.turning && key(there) === state.shown) {
      // The text has come to where the knob is.
      state.ask = there;
      state.turning = false;
    }
    if (own && state.done) {
      state.running = '';
      // The knob was turned too late for this text.
      if (state.turning && data.state === 'done') run();
      state.turning = false;
    }
    // A run that was ended may send a last word after the answer that took its place.
    const wanted = key(state.ask);
    if (!state.running && !timer && state.shown !== wanted && state.known.has(wanted)) put(state.known.get(wanted));
    tell();
  };
  const failed = () => { state.running = ''; state.turning = false; tell(); };
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

  // An event of which only the newest counts; its data lies where the server's side takes it from
  // when the event is really sent (Shared.newest).
  const newest = {};
  const send = (call, event, data) => { newest[event] = data; call(event, {}); };

  const connect = (call) => { trigger = call; };
  const connectAnswers = (write) => { put = write; };
  return {
    state, key, listen, tell, set, see, now, back, forth, adopt, hear, arrived, failed, run, stop, connect,
    connectAnswers, alike, setBeside, newest, send,
  };
})();
