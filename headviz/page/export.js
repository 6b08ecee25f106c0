// Files, figures and links that leave the page: the server makes the content, the browser the file.
(() => {
  const hv = window.headviz;
  const save = (name, blob) => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };

  let fetched = null; // plotly.js as text, asked for once
  const source = (address) => {
    fetched ??= fetch(new URL(address, document.baseURI)).then((response) => {
      if (!response.ok) throw new Error(`plotly.js: ${response.status}`);
      return response.text();
    });
    return fetched;
  };

  const library = async (address) => {
    if (!window.Plotly) {
      const script = document.createElement('script');
      script.text = await source(address);
      document.head.append(script);
    }
    return window.Plotly;
  };

  const standalone = (figure, title, code) => {
    // "</" would end the script inside which it stands.
    const data = JSON.stringify([figure.data, figure.layout]).replaceAll('</', '<\\/');
    return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${title}</title>
<script>${code}</script></head><body><div id="figure"></div>
<script>Plotly.newPlot('figure', ...${data}, { responsive: true, displaylogo: false });</script>
</body></html>`;
  };

  const draw = async ({ name, figure, plotly }) => {
    if (figure.kind === 'html') {
      const title = name.replace(/\.html$/, '');
      const page = standalone(figure, title, await source(plotly));
      return save(name, new Blob([page], { type: 'text/html' }));
    }
    const { width, height } = figure.layout;
    const options = { format: figure.kind, width, height, scale: figure.kind === 'png' ? 2 : 1 };
    const address = await (await library(plotly)).toImage(figure, options);
    save(name, await (await fetch(address)).blob());
  };

  // A link is shown as long as it is one to what the page shows.
  let linked = '';
  let lesson = ''; // a teacher's question, which the link that was asked for shall carry
  hv.listen(({ ask }) => {
    const box = document.querySelector('#link');
    if (box && !box.hidden && linked !== hv.key(ask)) { box.hidden = true; box.value = ''; }
  });
  const share = (token) => {
    const address = new URL(location.pathname, location.origin);
    address.searchParams.set('recipe', token);
    if (lesson) address.searchParams.set('lesson', lesson);
    lesson = '';
    const box = document.querySelector('#link');
    box.hidden = false;
    linked = hv.key(hv.state.ask);
    box.value = address.href;
    box.select();
    navigator.clipboard?.writeText(address.href).catch(() => {}); // it is selected to be copied
  };

  hv.save = (parcel) => {
    if (!parcel) return;
    if (parcel.link) return share(parcel.link);
    if (parcel.figure) return draw(parcel);
    const bytes = Uint8Array.from(atob(parcel.content), (c) => c.charCodeAt(0));
    save(parcel.name, new Blob([bytes]));
  };

  hv.exports = ({ element, trigger }) => {
    const ask = (row, kind) => trigger('export', { row, kind, head: hv.state.opened, ask: hv.state.ask, texts: hv.effects.known.texts });
    hv.askLink = (question) => { lesson = question; ask('edit', 'link'); };
    element.addEventListener('click', (event) => {
      const button = event.target.closest('button[data-kind]');
      if (button) { lesson = ''; ask(button.dataset.row, button.dataset.kind); }
    });
  };

  // The programs are made when somebody looks at them: this part is there while the box is open.
  hv.code = ({ element, trigger }) => {
    let before = '';
    hv.listen((state) => {
      const now = `${state.shown}${state.opened}`;
      if (!element.isConnected || !state.done || now === before) return;
      before = now;
      setTimeout(() => hv.send(trigger, 'code', { head: hv.state.opened }));
    });
  };
})();
