// How the prompt is put to a model: inside its chat template or not, with which system prompt.
(() => {
  const hv = window.headviz;
  const DELAY = 400; // ms after the last change until what is sent is shown anew

  hv.chat = ({ element, trigger }) => {
    const find = (id) => element.querySelector(`#${id}`);
    const [details, template, thinking, kind, own] =
      ['chat', 'chat-template', 'chat-thinking', 'chat-system', 'chat-own'].map(find);
    const summary = details.querySelector('summary');
    let ownChosen = false; // an own system prompt that is still empty
    let [timer, shown] = [0, ''];

    const set = (change, what, control) =>
      hv.set({ chat: { ...hv.state.ask.chat, ...change } }, what, control);
    template.addEventListener('change', () => set(
      template.checked ? { template: true } : { template: false, system: null },
      template.checked ? 'inside the chat template' : 'without the chat template', 'template'));
    thinking.addEventListener('change', () => set({ thinking: thinking.checked },
      thinking.checked ? 'thinks first' : 'does not think first', 'thinking'));
    kind.addEventListener('change', () => {
      ownChosen = kind.value === 'own';
      const system = { usual: null, none: '', own: own.value || null }[kind.value];
      if (system === hv.state.ask.chat.system) hv.tell(); else set({ system }, 'the system prompt', 'system kind');
      if (ownChosen) own.focus();
    });
    own.addEventListener('input', () => set({ system: own.value || null }, 'the system prompt', 'system'));

    const told = ({ ask, about }) => {
      const { template: known, thinks } = about.chat;
      if (known === null) return 'What the model is sent';
      if (!known) return 'Sent as it stands: the model has no chat template';
      if (!ask.chat.template) return 'Sent as it stands, without the chat template';
      const system = ask.chat.system === null ? '' : ask.chat.system ? ', with my own system prompt' : ', with an empty system prompt';
      const first = thinks ? ask.chat.thinking ? ', thinking first' : ', without thinking first' : '';
      return `Sent inside the model’s chat template${system}${first}`;
    };
    const show = () => {
      if (!details.open || !hv.state.ask) return;
      const { model, prompt, chat, pictures } = hv.state.ask;
      const wanted = JSON.stringify([model, prompt, chat, pictures]);
      if (wanted === shown) return;
      shown = wanted;
      hv.send(trigger, 'sent', hv.state.ask);
    };
    const draw = (state) => {
      if (!state.ask) return;
      const { ask, about } = state;
      element.hidden = !about.writes;
      summary.textContent = told(state);
      const has = about.chat.template !== false;
      template.checked = has && ask.chat.template;
      thinking.checked = ask.chat.thinking;
      template.parentElement.hidden = !has;
      thinking.parentElement.hidden = !about.chat.thinks || !ask.chat.template;
      const system = ask.chat.system;
      if (system) ownChosen = true;
      const chosen = ownChosen && system !== '' ? 'own' : system === null ? 'usual' : 'none';
      kind.value = chosen;
      kind.parentElement.hidden = !has || !ask.chat.template;
      own.hidden = kind.parentElement.hidden || chosen !== 'own';
      if (document.activeElement !== own && system !== null && own.value !== system) own.value = system;
      document.querySelector('#sent')?.classList.toggle('hv-open', details.open && about.writes);
      clearTimeout(timer);
      timer = setTimeout(show, DELAY);
    };
    details.addEventListener('toggle', () => { draw(hv.state); show(); });
    hv.listen(draw);
  };
})();
