// Starts a plotly figure in the page, see live_figure.py.  All figures of a page share one copy of plotly.js.
const MESSAGES = [
  "addTraces", "deleteTraces", "moveTraces", "restyle", "relayout", "update", "animate", "removeLayoutProps",
  "removeTraceProps",
].map((name) => `_py2js_${name}`);

function shared() {
  if (!globalThis.starclipPlotly) {
    const plotly = (globalThis.starclipPlotly = { loading: false });
    plotly.module = new Promise((resolve, reject) => Object.assign(plotly, { resolve, reject }));
  }
  return globalThis.starclipPlotly;
}

// Reading plotly.js stops the page for a second or more, so every figure that is on its way is let in first.
function load(text) {
  const plotly = shared();
  plotly.text = plotly.text || text;
  clearTimeout(plotly.timer);
  if (plotly.loading || !plotly.text) return;
  const start = () => {
    if (plotly.loading) return;
    plotly.loading = true;
    const address = URL.createObjectURL(new Blob([plotly.text], { type: "text/javascript" }));
    import(/* webpackIgnore: true */ address).then(plotly.resolve, plotly.reject);
  };
  plotly.timer = setTimeout(() => (globalThis.requestIdleCallback ?? setTimeout)(start), 300);
}

// Signs above the first subplot of a drawn figure, at places on its axes.
function mark(el, model) {
  const layer = document.createElement("div");
  layer.setAttribute("aria-hidden", "true");
  const draw = () => {
    const { xaxis, yaxis } = el._fullLayout;
    layer.style.cssText = `position:absolute; overflow:hidden; pointer-events:none; left:${xaxis._offset}px;
      top:${yaxis._offset}px; width:${xaxis._length}px; height:${yaxis._length}px`;
    const signs = model.get("marks").map(({ x, y, text, css }) => {
      const sign = document.createElement("span");
      sign.textContent = text;
      sign.style.cssText = `position:absolute; transform:translate(-50%,-50%); box-sizing:border-box; left:${xaxis.l2p(x)}px;
        top:${yaxis.l2p(y)}px; ${css}`;
      return sign;
    });
    layer.replaceChildren(...signs);
    el.querySelector(".svg-container").append(layer);
  };
  model.on("change:marks", draw);
  for (const event of ["plotly_afterplot", "plotly_relayouting"]) el.on(event, draw);
}

export default () => {
  let figure;
  return {
    // Returns at once: anywidget drops what Python sends to a figure that takes more than two seconds to start.  What
    // comes before plotly.js is there is kept, and told to the figure before it is drawn.
    initialize({ model }) {
      load(model.get("_plotly"));
      const kept = [];
      const keep = MESSAGES.map((name) => () => {
        const message = model.get(name);
        if (message !== null) kept.push([name, message]);
      });
      MESSAGES.forEach((name, i) => model.on(`change:${name}`, keep[i]));
      figure = shared().module.then((plotly) => {
        MESSAGES.forEach((name, i) => model.off(`change:${name}`, keep[i]));
        const started = plotly.default(), handlers = {};
        let [told, message] = [null, null];
        started.initialize({
          model: {
            ...model,
            get: (name) => (name === told ? message : model.get(name)),
            on: (name, handler) => {
              handlers[name] = handlers[name] ?? handler;
              model.on(name, handler);
            },
          },
        });
        for ([told, message] of kept) handlers[`change:${told}`]();
        told = null;
        return started;
      });
    },
    async render({ model, el }) {
      const stop = (await figure).render({ el });
      mark(el, model);
      return stop;
    },
  };
};
