// Two edits side by side: an earlier one, whose answer is known, takes the control's place. What the
// controls of both did is told in a line of each.
(() => {
  const hv = window.headviz;
  const NAMED = 3; // heads that are told by name
  const minus = (number) => String(number).replace('-', '−');
  const PLACES = { everywhere: '', image: ', on the picture only', prompt: ', on the question only', generated: ', on the answer only' };

  // What an ask turns, in words.
  const turned = (ask) => {
    const heads = Object.entries(ask.heads).filter(([, factor]) => factor !== 1);
    if (!heads.length) return 'no head turned';
    const even = heads.every(([, factor]) => factor === heads[0][1]);
    const names = heads.slice(0, NAMED).map(([name, factor]) => (even ? name : `${name} ${minus(factor)}`));
    const more = heads.length > NAMED ? ` and ${heads.length - NAMED} more` : '';
    return `${names.join(', ')}${more}${even ? ` at α = ${minus(heads[0][1])}` : ''}${PLACES[ask.where] ?? ''}`;
  };

  // The first word in which two texts differ, marks around words apart; as answers.py tells it.
  const firstChange = (text, other) => {
    const [words, others] = [text, other].map((one) => one.split(/\s+/).filter(Boolean));
    const bare = (word) => word.replace(/^[.,;:!?"'()]+|[.,;:!?"'()]+$/g, '') || word;
    for (const form of [bare, String]) {
      for (let n = 0; n < Math.max(words.length, others.length); n++) {
        const [after, before] = [words, others].map((all) => (n < all.length ? form(all[n]) : '(end)'));
        if (after !== before) return [before, after, n + 1];
      }
    }
    return null;
  };
  const saidBy = (column) => {
    const copy = column.querySelector('.hv-text').cloneNode(true);
    copy.querySelectorAll('.hv-turn, .hv-thinking').forEach((mark) => mark.remove());
    return copy.textContent.trim();
  };
  const controls = (section) => {
    const change = section.querySelector('.control .hv-change');
    return change && hv.make('p', { className: 'hv-control-line' }, 'random heads: ', ...change.cloneNode(true).childNodes);
  };

  const column = (html, ask, present) => {
    const section = new DOMParser().parseFromString(html, 'text/html').querySelector('.hv-answers');
    const made = section?.querySelector('.edited');
    if (!made) return null;
    made.className = 'hv-column beside';
    Object.assign(made.querySelector('h3'), { textContent: 'Earlier edit', title: turned(ask) });
    made.querySelector('.hv-text').setAttribute('aria-label', 'Earlier edit');
    made.querySelectorAll('.hv-moved').forEach((one) => one.remove());
    const line = controls(section);
    if (line) made.append(line);
    if (present) {
      const change = firstChange(present, saidBy(made));
      made.append(hv.make('p', { className: 'hv-control-line hv-to-present' }, ...(change ? ['now ',
        hv.make('del', {}, change[0]), ' → ', hv.make('ins', {}, change[1]), hv.make('small', {}, ` word ${change[2]}`)]
        : ['the present edit says the same'])));
    }
    return document.importNode(made, true);
  };

  // Called whenever the answers or the state are others.
  hv.drawBeside = (section, state) => {
    const ask = state.beside;
    const columns = section.querySelector('.hv-columns');
    const html = ask && state.known.get(hv.key(ask));
    const edited = section.querySelector('.edited');
    const there = section.querySelector('.beside');
    section.classList.toggle('hv-two-edits', Boolean(html && edited));
    if (!html || !edited?.querySelector('.hv-text')) {
      section.querySelectorAll('.beside, .edited > .hv-control-line').forEach((one) => one.remove());
      return;
    }
    const present = section.dataset.state === 'running' ? '' : saidBy(edited);
    const of = JSON.stringify([hv.key(ask), present]);
    if (there?.dataset.of === of) return;
    const made = column(html, ask, present);
    if (!made) return;
    made.dataset.of = of;
    if (there) there.replaceWith(made); else columns.append(made);
    edited.querySelectorAll('.hv-control-line').forEach((one) => one.remove());
    const line = controls(section);
    if (line) edited.append(line);
  };

  // What stands beside the present edit, and the way out.
  hv.besideBar = () => {
    const told = hv.make('span', { id: 'beside-told', role: 'status' });
    const leave = hv.make('button', { type: 'button', id: 'leave-beside', className: 'hv-small', title: 'Back to the random control (Escape)' }, 'Leave');
    const bar = hv.make('p', { className: 'hv-beside-bar', hidden: true }, told, leave);
    const out = () => {
      hv.setBeside(null);
      document.querySelector('#edits')?.focus();
    };
    leave.addEventListener('click', out);
    document.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || event.defaultPrevented || !hv.state.beside) return;
      event.preventDefault();
      out();
    });
    hv.listen(({ beside }) => {
      const text = beside ? `Two edits side by side; the earlier one: ${turned(beside)}.` : '';
      bar.hidden = !beside;
      if (told.textContent !== text) told.textContent = text;
    });
    hv.leaveBeside = leave;
    return bar;
  };
})();
