"use strict";
(() => {
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const divs = [...document.querySelectorAll(".chart")];
  let paper = false; // two charts side by side, as wide as half a page of A4 or Letter
  const floor = 1e-9; // a logarithm has no zero: equal losses stand here

  const ink = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();

  const line = (name, x, y, colour, more) => ({
    type: "scatter", mode: "lines", name, x, y,
    line: { color: ink(colour), width: name === "torch" ? 5 : 1.6 },
    opacity: name === "torch" ? 0.55 : 1, hovertemplate: "%{y:.6g}", ...more,
  });

  function drawLoss(data) {
    const steps = data.loss.jaxnet.map((_, i) => i + 1);
    const mode = steps.length <= 20 ? "lines+markers" : "lines";
    const traces = [];
    if (data.loss.torch) traces.push(line("torch", steps, data.loss.torch, "torch"));
    traces.push(line("jaxnet", steps, data.loss.jaxnet, "jaxnet", { mode }));
    if (data.gap) {
      traces.push({
        type: "scatter", mode: "markers", name: "gap", x: steps, y: data.gap.map((g) => g === null ? null : Math.max(g, floor)),
        customdata: data.gap, hovertemplate: "%{customdata:.2e}", yaxis: "y2", showlegend: false,
        marker: { color: ink("grey"), size: 3 },
      });
    }
    return traces;
  }

  function drawAccuracy(data) {
    const traces = [];
    if (data.accuracy.torch) traces.push(line("torch", data.epochs, data.accuracy.torch, "torch"));
    traces.push(line("jaxnet", data.epochs, data.accuracy.jaxnet, "jaxnet", { mode: "lines+markers" }));
    traces.push({
      type: "scatter", mode: "markers", name: "test, at the end", x: data.epochs.slice(-1), y: [data.test],
      marker: { color: ink("grey"), size: 10, symbol: "square" }, hovertemplate: "%{y:.6g}",
    });
    return traces;
  }

  function lay(kind, data, scale) {
    const axis = { gridcolor: ink("rule"), linecolor: ink("quiet"), zeroline: false, automargin: true };
    const two = kind === "loss" && data.gap;
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "x unified", hoversubplots: "axis",
      font: { color: ink("ink"), family: getComputedStyle(document.body).fontFamily, size: 13 },
      margin: { l: 8, r: 8, t: 30, b: 8 }, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
      hoverlabel: { bgcolor: ink("raised"), bordercolor: ink("rule"), font: { color: ink("ink") } },
      xaxis: { ...axis, title: { text: kind === "loss" ? "step" : "epoch" }, anchor: two ? "y2" : "y" },
      yaxis: { ...axis, type: scale, domain: two ? [0.36, 1] : [0, 1], title: { text: kind } },
    };
    if (two) {
      const most = Math.max(1e-5, ...data.gap.filter((g) => g !== null).map((g) => 3 * g));
      const ticks = [1e-7, 1e-5, 1e-3, 1e-1, 10].filter((tick) => tick <= most);
      layout.yaxis2 = {
        ...axis, type: "log", domain: [0, 0.27], range: [Math.log10(floor / 3), Math.log10(most)],
        tickvals: [floor, ...ticks], ticktext: ["equal", ...ticks.map((tick) => tick.toExponential(0))],
        title: { text: "relative gap" },
      };
      layout.shapes = [];
      layout.annotations = [];
      const say = (y, text) => layout.annotations.push({
        xref: "paper", x: 1, yref: "y2", y: Math.log10(y), xanchor: "right", yanchor: "bottom",
        showarrow: false, text, font: { size: 11, color: ink("quiet") },
      });
      if (data.bound) {
        layout.shapes.push({
          type: "line", xref: "paper", x0: 0, x1: 1, yref: "y2", y0: data.bound, y1: data.bound,
          line: { color: ink("jaxnet"), width: 1, dash: "dash" },
        });
        say(data.bound, "stated bound, " + data.bound.toExponential(0));
      }
      const lost = data.gap.filter((g) => g === null).length;
      if (lost) say(most / 10, lost + " steps are not finite");
    }
    if (kind === "accuracy" && data.epochs.length <= 2) layout.xaxis.tickvals = data.epochs;
    if (kind === "accuracy" && data.published) {
      layout.shapes = [{
        type: "line", xref: "paper", x0: 0, x1: 1, y0: data.published, y1: data.published,
        line: { color: ink("grey"), width: 1, dash: "dash" },
      }];
      layout.annotations = [{
        xref: "paper", x: 0, y: data.published, xanchor: "left", yanchor: "top", showarrow: false,
        text: "published, train: " + data.published, font: { size: 11, color: ink("quiet") },
      }];
    }
    return layout;
  }

  function draw(div) {
    const data = charts[div.dataset.experiment];
    const kind = div.dataset.chart;
    const traces = kind === "loss" ? drawLoss(data) : drawAccuracy(data);
    const layout = lay(kind, data, div.dataset.scale || "linear");
    if (paper) Object.assign(layout, { width: 330, height: 260 });
    return Plotly.react(div, traces, layout, { responsive: !paper, displayModeBar: false });
  }

  const drawAll = () => Promise.all(divs.map(draw));

  // Light or dark, as the system has it; light on paper.
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  function paint(theme) {
    root.dataset.theme = theme;
    return drawAll();
  }
  const choose = () => paint(system.matches ? "dark" : "light");
  system.addEventListener("change", choose);
  window.addEventListener("beforeprint", () => { paper = true; paint("light"); });
  window.addEventListener("afterprint", () => { paper = false; choose(); });

  // Linear or log.
  for (const button of document.querySelectorAll("[data-scale]")) {
    if (button.tagName !== "BUTTON") continue;
    button.addEventListener("click", () => {
      const figure = button.closest("figure");
      for (const other of figure.querySelectorAll("button")) other.setAttribute("aria-pressed", other === button);
      const div = figure.querySelector(".chart");
      div.dataset.scale = button.dataset.scale;
      draw(div);
    });
  }

  choose().then(() => { root.dataset.ready = "yes"; });
})();
