// Guesses: a question is answered before one looks; lessons that are done, and links of a teacher.
(() => {
  const hv = window.headviz;

  // A choice among `data-option` shows what comes after it. Returns the guess that was made, if any.
  const guess = (event) => {
    const button = event.target.closest('.hv-guess [data-option]');
    if (!button) return null;
    const asked = button.closest('.hv-guess');
    const right = button.dataset.right === 'true';
    asked.querySelectorAll('[data-option]').forEach((one) => one.setAttribute('aria-pressed', String(one === button)));
    asked.querySelector('.hv-verdict').textContent = right ? 'Yes.' : 'No. See for yourself:';
    asked.querySelector('.hv-after').hidden = false;
    return asked;
  };

  // What was done is remembered here, in the browser.
  hv.lessons = ({ element, trigger }) => {
    const done = () => JSON.parse(localStorage.getItem('headviz-lessons') ?? '[]');
    const mark = () => element.querySelectorAll('.hv-lesson').forEach((lesson) => {
      lesson.querySelector('.hv-done').textContent = done().includes(lesson.dataset.title) ? '✓ done' : '';
    });
    element.addEventListener('click', (event) => {
      const open = event.target.closest('button[data-open]');
      if (open) { hv.send(trigger, 'lesson', { number: Number(open.dataset.open) }); return; }
      const lesson = guess(event)?.closest('.hv-lesson');
      if (!lesson) return;
      localStorage.setItem('headviz-lessons', JSON.stringify([...new Set([...done(), lesson.dataset.title])]));
      mark();
    });
    mark();
    // From the page back to the lessons, the one that is named open and in sight.
    hv.toLesson = (number) => {
      [...document.querySelectorAll('#tabs [role=tab]')].find((tab) => tab.textContent.trim() === 'Lessons')?.click();
      const lessons = [...element.querySelectorAll('.hv-lesson')];
      lessons.forEach((lesson) => { lesson.open = lesson.dataset.lesson === number; });
      // The tab is laid out after this.
      setTimeout(() => (lessons[Number(number)] ?? lessons[0])?.querySelector('summary').focus());
    };
  };

  // A link with a question: what the heads do is hidden until somebody has guessed.
  hv.banner = ({ element, watch }) => {
    const hide = (hidden) => document.querySelector('#bench').classList.toggle('hv-guessing', hidden);
    if (new URLSearchParams(location.search).has('lesson')) hide(true);
    watch('value', () => hide(Boolean(element.querySelector('.hv-guess .hv-after[hidden]'))));
    element.addEventListener('click', (event) => {
      if (guess(event)) hide(false);
      const next = event.target.closest('[data-next]');
      if (next) hv.toLesson(next.dataset.next);
    });
  };

  // Which of three heads the model needs is asked before it is shown; causes.js knows what was measured.
  hv.predict = ({ element }) => {
    let turn = 0;
    const make = (tag, properties, ...children) => {
      const made = Object.assign(document.createElement(tag), properties);
      made.append(...children);
      return made;
    };
    // One that is surely needed, and two that write the concept and surely are not.
    const three = () => {
      const { known, of } = hv.effects;
      const all = [...known.rows.keys()].map(of).filter((head) => head.measured && head.sure);
      const needed = all.filter((head) => head.need >= known.about.needed).sort((a, b) => b.need - a.need);
      const idle = all.filter((head) => head.need < known.about.needed).sort((a, b) => b.over - a.over);
      if (!needed.length || idle.length < 2) return null;
      const pick = (from, n) => from[n % from.length];
      const chosen = [pick(needed, turn), pick(idle, 2 * turn), pick(idle, 2 * turn + 1)];
      return new Set(chosen).size < 3 ? null : chosen.sort((a, b) => a.layer - b.layer || a.head - b.head);
    };
    const hide = (hidden) => document.querySelector('#heads').classList.toggle('hv-predicting', hidden);
    const offer = () => {
      hide(false);
      const found = hv.effects?.known.about && three();
      element.hidden = !found;
      if (!found || element.querySelector('.hv-guess')) return;
      const button = make('button', { type: 'button', className: 'hv-small' }, 'Predict first: which of three heads does the model need?');
      button.addEventListener('click', ask);
      element.replaceChildren(button);
    };
    const ask = () => {
      const found = three();
      if (!found) return;
      turn += 1;
      const { known, told } = hv.effects;
      const needed = found.reduce((best, head) => (head.need > best.need ? head : best));
      const options = make('div', { className: 'hv-options', role: 'group', ariaLabel: 'Your guess' });
      found.forEach((head) => {
        const option = make('button', { type: 'button' }, head.name);
        option.dataset.option = head.name;
        option.dataset.right = String(head === needed);
        options.append(option);
      });
      const after = make('div', { className: 'hv-after', hidden: true },
        make('ul', {}, ...found.map((head) => make('li', {}, told(head)))));
      const more = make('button', { type: 'button', className: 'hv-small' }, 'Three others');
      more.addEventListener('click', ask);
      after.append(more);
      const verdict = make('p', { className: 'hv-verdict' });
      verdict.setAttribute('role', 'status');
      element.replaceChildren(make('div', { className: 'hv-guess' },
        make('p', { className: 'hv-question' }, `All three were turned off, one after the other. Without which one does the model lose the words of “${known.about.concept}”? Open them on the grid and read what they write.`),
        options, verdict, after));
      hide(true);
    };
    element.addEventListener('click', (event) => { if (guess(event)) hide(false); });
    let about = '';
    hv.effects?.listen(() => {
      const key = hv.effects.known.about?.key ?? '';
      if (key !== about) { about = key; turn = 0; element.replaceChildren(); }
      offer();
    });
  };

  hv.teach = ({ element }) => {
    const find = (id) => element.querySelector(`#teach-${id}`);
    const [question, right, wrong, explain, told] = ['question', 'right', 'wrong', 'explain', 'told'].map(find);
    find('link').addEventListener('click', () => {
      const others = wrong.value.split('\n').map((line) => line.trim()).filter(Boolean).slice(0, 5);
      if (!question.value.trim() || !right.value.trim() || !others.length) {
        told.textContent = 'A lesson needs a question, the right answer and a wrong one.';
        return;
      }
      // In the order of the alphabet, which tells nobody which one is right.
      const options = [right.value.trim(), ...others].sort();
      const data = { question: question.value.trim(), options, answer: options.indexOf(right.value.trim()), explain: explain.value.trim() };
      const bytes = new TextEncoder().encode(JSON.stringify(data));
      const token = btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
      told.textContent = 'The link stands above and was copied.';
      hv.askLink(token);
    });
  };
})();
