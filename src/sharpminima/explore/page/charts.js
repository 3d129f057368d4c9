"use strict";
// Draws the charts of the page: what each holds, and how traces and controls belong together, says explore/chart.py.

const POINTER = matchMedia("(hover: hover)").matches;
const NARROW = 450; // pixels: below it the titles of a scene's axes do not fit beside it

class Chart {
  constructor(figure, spec) {
    Object.assign(this, spec, { traces: spec.traces.map((trace) => whole(trace, spec.kinds)) }, { figure, plot: figure.querySelector(".plot"), form: figure.querySelector("form") });
    this.chosen = Object.fromEntries(this.controls.map((control) => [control.name, new Set(control.start ??
      control.options.slice(0, control.choose === "one" ? 1 : undefined).map((option) => option.value))]));
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("change", () => { this.read(); this.update(); this.share(); });
    this.settle();
  }

  // Values of a control that some trace has, given what the controls before it choose.
  possible(place) {
    const before = this.controls.slice(0, place), name = this.controls[place].name, found = new Set();
    for (const { meta } of this.traces) {
      if (before.every((control) => this.fits(meta, control.name))) [meta[name] ?? []].flat().forEach((v) => found.add(v));
    }
    return found;
  }

  fits(meta, name) {
    const value = meta[name];
    return value === undefined || Array.isArray(value) || this.chosen[name].has(value);
  }

  // Controls offer what there is; a choice of one that is not there falls back to the first that is.
  settle() {
    this.offered = this.controls.map((control, place) => {
      const found = this.possible(place), options = control.options.filter((option) => found.has(option.value));
      const chosen = this.chosen[control.name];
      if (control.choose === "one" && options.length && !options.some((option) => chosen.has(option.value))) {
        this.chosen[control.name] = new Set([options[0].value]);
      }
      return options;
    });
    const focus = this.form.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.form.replaceChildren(...this.controls.flatMap((control, place) => this.offered[place].length ?
      [control.choose === "one" ? this.select(control, place) : this.switches(control, place)] : []));
    if (focus) this.form.querySelector(`[data-key="${CSS.escape(focus)}"]`)?.focus();
  }

  select(control, place) {
    const select = element("select", { name: control.name });
    select.dataset.key = control.name;
    for (const option of this.offered[place]) {
      select.append(new Option(option.label, option.value, false, this.chosen[control.name].has(option.value)));
    }
    return element("label", { className: "one" }, control.label, select);
  }

  switches(control, place) {
    const options = this.offered[place], boxes = options.map((option) => {
      const box = element("input", { type: "checkbox", name: control.name, value: option.value,
        checked: this.chosen[control.name].has(option.value) });
      box.dataset.key = `${control.name}=${option.value}`;
      const chip = element("span", { className: "chip", textContent: option.mark, ariaHidden: "true" });
      chip.style.color = option.colour;
      return element("label", { className: "switch" }, box, ...(option.colour ? [chip] : []), option.label);
    });
    const some = options.some((option) => this.chosen[control.name].has(option.value));
    const all = element("button", { type: "button", textContent: some ? "none" : "all" });
    all.dataset.key = `${control.name}:all`;
    all.addEventListener("click", () => {
      const chosen = this.chosen[control.name];
      options.forEach((option) => some ? chosen.delete(option.value) : chosen.add(option.value));
      this.update();
    });
    return element("fieldset", {}, element("legend", { textContent: control.label }), ...boxes,
      ...(options.length > 4 ? [all] : []));
  }

  read() {
    for (const control of this.controls) {
      const inputs = [...this.form.elements].filter((input) => input.name === control.name);
      for (const input of inputs) {
        if (control.choose === "one") this.chosen[control.name] = new Set([input.value]);
        else this.chosen[control.name][input.checked ? "add" : "delete"](input.value);
      }
    }
  }

  update() {
    this.settle();
    this.draw();
  }

  // Controls that several charts share move together.
  share() {
    for (const control of this.controls.filter((one) => one.shared)) {
      for (const other of Object.values(CHARTS)) {
        if (other !== this && other.chosen[control.name]) {
          other.chosen[control.name] = new Set(this.chosen[control.name]);
          other.update();
        }
      }
    }
  }

  drawn() {
    return this.traces.filter(({ meta }) => this.controls.every((control) => this.fits(meta, control.name)))
      .map((trace) => logarithmic(this.points(trace)));
  }

  // The points of a trace that controls choose among.
  points(trace) {
    const lists = this.controls.map((control) => control.name).filter((name) => Array.isArray(trace.meta[name]));
    if (!lists.length) return trace;
    const keep = trace.x.map((_, i) => lists.every((name) => this.chosen[name].has(trace.meta[name][i])));
    return picked(trace, (list) => list.length === keep.length ? list.filter((_, i) => keep[i]) : list);
  }

  draw() {
    const traces = this.drawn(), layout = structuredClone(this.layout), notes = new Set();
    for (const { meta } of traces) {
      for (const [path, value] of Object.entries(meta.layout ?? {})) assign(layout, path, value);
      if (meta.note) notes.add(meta.note);
    }
    if (this.turns && this.plot.clientWidth < NARROW) notes.add(narrowed(layout.scene));
    this.figure.querySelector(".note").textContent = [...notes].join(" ");
    // A finger moves the page and taps points; buttons are for a pointer.
    if (!POINTER) layout.dragmode = this.turns ? "orbit" : false;
    const buttons = ["toImage", ...(this.turns ? ["resetCameraDefault3d"] : []),
      ...(this.traces[0].type === "sankey" || this.turns ? [] : ["zoom2d", "pan2d", "resetScale2d"])];
    Plotly.react(this.plot, traces, layout, { responsive: true, displaylogo: false, displayModeBar: POINTER && undefined,
      modeBarButtons: [buttons] });
    if (!this.listens) this.listen();
    document.querySelectorAll(`[data-chart="${this.id}"][data-control]`).forEach((one) => {
      one.hidden = !this.chosen[one.dataset.control].has(one.dataset.value);
    });
    const table = this.figure.querySelector(".numbers");
    if (table?.open) tabulate(table, traces);
  }

  listen() {
    this.listens = true;
    this.plot.on("plotly_click", ({ points }) => points[0].data.meta.kind === "net" && show(this, points[0]));
    if (this.turns) this.plot.addEventListener("keydown", (event) => turn(this.plot, event));
    const table = this.figure.querySelector(".numbers");
    table?.addEventListener("toggle", () => table.open && tabulate(table, this.drawn()));
  }
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// A trace with what those of its kind share.
function whole(trace, kinds) {
  const { like, ...own } = trace;
  return like ? { ...kinds[like], ...own, line: { ...kinds[like].line, ...own.line } } : trace;
}

// A copy of a trace with `choose` applied to its lists of points.
function picked(trace, choose) {
  const found = { ...trace, meta: { ...trace.meta } };
  for (const [name, value] of Object.entries(found)) if (Array.isArray(value)) found[name] = choose(value);
  for (const [name, value] of Object.entries(found.meta)) if (Array.isArray(value)) found.meta[name] = choose(value);
  if (trace.error_y) found.error_y = { ...trace.error_y, array: choose(trace.error_y.array) };
  return found;
}

// A surface whose heights are on a logarithmic axis has logarithmic colours.
function logarithmic(trace) {
  if (!trace.meta.logarithmic) return trace;
  return { ...trace, surfacecolor: trace.z.map((row) => row.map((value) => value === null ? null : Math.log10(value))) };
}

function assign(target, path, value) {
  const names = path.split("."), last = names.pop();
  names.reduce((inner, name) => (inner[name] ??= {}), target)[last] = value;
}

// A scene made to fit a narrow page: seen from afar, in small type; what its height is, the sentence given back says.
function narrowed(scene) {
  for (const axis in scene.camera.eye) scene.camera.eye[axis] *= 1.25;
  for (const axis of [scene.xaxis, scene.yaxis, scene.zaxis]) {
    axis.tickfont = { size: 11 };
    axis.title.font = { size: 13 };
  }
  const height = scene.zaxis.title.text;
  scene.zaxis.title.text = "";
  return `Height: ${height}.`;
}

function turn(plot, event) {
  const step = { ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, 0.15], ArrowDown: [0, -0.15] }[event.key];
  if (!step) return;
  event.preventDefault();
  const { x, y, z } = plot._fullLayout.scene.camera.eye, angle = Math.atan2(y, x) + step[0], far = Math.hypot(x, y);
  Plotly.relayout(plot, { "scene.camera.eye": { x: far * Math.cos(angle), y: far * Math.sin(angle), z: z + step[1] } });
}

function tabulate(details, traces) {
  const head = element("tr", {}, ...["what", "x", "y", "more"].map((name) => element("th", { textContent: name })));
  const rows = traces.filter((trace) => trace.hoverinfo !== "skip").flatMap((trace) => trace.y.map((y, i) =>
    element("tr", {}, ...[trace.meta.title ?? `${trace.name}, run ${trace.meta.run}`, trace.x?.[i] ?? i + trace.x0, y,
      [trace.customdata?.[i] ?? []].flat().join("; ").replaceAll("<br>", "; ")].map((text) => element("td", { textContent: text ?? "–" })))));
  const table = element("table", {}, head, ...rows);
  details.replaceChildren(details.querySelector("summary"), element("div", { className: "wide" }, table));
}
