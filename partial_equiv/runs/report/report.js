// Draws the lines and the learned subsets of a report, and moves their cursors together.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const WIDTH = 360, HEIGHT = 210, LEFT = 52, RIGHT = 10, TOP = 8, BOTTOM = 24;
  const TONES = 6, DASHES = 4, MOST_TICKS = 20;

  function svg(tag, attributes, parent) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (parent) parent.append(node);
    return node;
  }

  function element(tag, attributes, parent, text) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }

  function words(value) {
    const size = Math.abs(value);
    const short = Number(value.toPrecision(4));
    return size !== 0 && (size < 1e-3 || size >= 1e5) ? short.toExponential().replace("e+", "e") : String(short);
  }

  // Place of the point nearest to x on an ascending axis.
  function nearest(axis, x) {
    let low = 0, high = axis.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (axis[middle] <= x) low = middle; else high = middle;
    }
    return x - axis[low] <= axis[high] - x ? low : high;
  }

  function stepOf(range, most) {
    const rough = range / most, power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map(factor => factor * power).find(size => size >= rough * 0.999);
  }

  function ticksOf(low, high, step) {
    const first = Math.ceil(low / step - 1e-9), count = Math.floor(high / step + 1e-9) - first + 1;
    return Array.from({ length: Math.min(count, MOST_TICKS) }, (_, k) => Number(((first + k) * step).toPrecision(12)));
  }

  function logTicks(low, high) {
    const ticks = [], decades = Math.log10(high / low);
    const factors = decades < 1.5 ? [1, 2, 3, 5] : decades < 3 ? [1, 3] : [1];
    const stride = Math.max(1, Math.ceil(decades / 6));
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      if (decades >= 3 && power % stride !== 0) continue;
      for (const factor of factors) {
        const tick = Number(`${factor}e${power}`);
        if (tick >= low && tick <= high) ticks.push(tick);
      }
    }
    return ticks;
  }

  function padded(low, high) {
    const room = high > low ? 0.04 * (high - low) : Math.max(Math.abs(high) * 0.5, 1e-6);
    return [low - room, high + room];
  }

  // A group of panels has one cursor, at one of its steps; whatever follows it is called with the step.
  const groups = {};
  for (const [name, facts] of Object.entries(data.groups)) groups[name] = { ...facts, at: facts.start, followers: [] };

  function move(group, at) {
    group.at = Math.min(Math.max(at, 0), group.steps.length - 1);
    for (const follow of group.followers) follow(group.steps[group.at]);
  }

  function drawSlider(input) {
    const group = groups[input.dataset.group], output = input.parentElement.querySelector(".value");
    input.max = group.steps.length - 1;
    input.addEventListener("input", () => move(group, Number(input.value)));
    group.followers.push(step => {
      input.value = group.at;
      input.setAttribute("aria-valuetext", `${group.name} ${step}${group.unit}`);
      output.textContent = `${step}${group.unit}`;
    });
  }

  function drawFrame(plot, panel, group, x, y, ranges) {
    const [left, right, low, high] = ranges;
    const across = ticksOf(left, right, group.stride ?? Math.max(1, Math.round(stepOf(right - left, 6))));
    const up = panel.log ? logTicks(10 ** low, 10 ** high) : ticksOf(low, high, stepOf(high - low, 5));
    for (const tick of up) {
      svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick), class: "grid" }, plot);
      svg("text", { x: LEFT - 5, y: y(tick) + 4, "text-anchor": "end" }, plot).textContent = words(tick);
    }
    for (const tick of across) {
      const label = svg("text", { x: x(tick), y: HEIGHT - BOTTOM + 15, "text-anchor": "middle" }, plot);
      label.textContent = `${words(tick)}${group.unit}`;
    }
    svg("path", { d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}`, class: "grid" }, plot);
  }

  function path(axis, values, x, y) {
    let text = "", lifted = true;
    values.forEach((value, place) => {
      if (value === null) { lifted = true; return; }
      const here = `${x(axis[place]).toFixed(1)} ${y(value).toFixed(1)}`;
      text += lifted ? `M${here}h0` : `L${here}`;  // a line of no length, so that a point alone is seen
      lifted = false;
    });
    return text;
  }

  function drawPanel(figure) {
    const panel = data.panels[figure.dataset.panel], group = groups[panel.group];
    const scale = panel.log ? Math.log10 : value => value;
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const line of panel.lines) {
      for (const place of data.axes[line.axis]) { left = Math.min(left, place); right = Math.max(right, place); }
      for (const value of line.values) {
        if (value !== null) { low = Math.min(low, scale(value)); high = Math.max(high, scale(value)); }
      }
    }
    if (left === right) { left -= 1; right += 1; }
    [low, high] = padded(low, high);
    const x = place => LEFT + (place - left) / (right - left) * (WIDTH - LEFT - RIGHT);
    const y = value => HEIGHT - BOTTOM - (scale(value) - low) / (high - low) * (HEIGHT - TOP - BOTTOM);
    const plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": panel.text }, figure);
    drawFrame(plot, panel, group, x, y, [left, right, low, high]);
    const cursor = svg("line", { y1: TOP, y2: HEIGHT - BOTTOM, class: "cursor" }, plot);
    group.followers.push(step => { cursor.setAttribute("x1", x(step)); cursor.setAttribute("x2", x(step)); });
    const legend = element("ul", { class: "legend" }, figure);
    for (const line of panel.lines) drawLine(plot, legend, group, line, x, y);
    const follow = event => {
      const box = plot.getBoundingClientRect();
      const across = (event.clientX - box.left) / box.width * WIDTH;
      move(group, nearest(group.steps, left + (across - LEFT) / (WIDTH - LEFT - RIGHT) * (right - left)));
    };
    plot.addEventListener("pointermove", follow);
    plot.addEventListener("pointerdown", follow);
  }

  function drawLine(plot, legend, group, line, x, y) {
    const axis = data.axes[line.axis], tone = `tone${line.tone % TONES}`, dash = `dash${line.tone % DASHES}`;
    const curve = svg("path", { d: path(axis, line.values, x, y), class: `curve ${tone} ${dash}` }, plot);
    const dot = svg("circle", { r: 3.5, class: `dot ${tone}` }, plot);
    const button = element("button", { type: "button", "aria-pressed": "true" }, element("li", {}, legend));
    const sample = svg("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, button);
    svg("line", { x1: 0, x2: 26, y1: 5, y2: 5, class: `curve ${tone} ${dash}` }, sample);
    element("span", {}, button, line.name);
    const output = element("span", { class: "value" }, button);
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", shown);
      for (const node of [curve, dot]) node.classList.toggle("hidden", !shown);
    });
    group.followers.push(step => {
      const place = nearest(axis, step), inside = step >= axis[0] && step <= axis[axis.length - 1];
      const value = inside ? line.values[place] : null;
      output.textContent = value === null ? "–" : words(value);
      dot.setAttribute("r", value === null ? 0 : 3.5);
      if (value !== null) { dot.setAttribute("cx", x(axis[place])); dot.setAttribute("cy", y(value)); }
    });
  }

  // Angle 0 is up, and angles grow counter-clockwise, as the library displays images.
  const CENTRE = 80, RADIUS = 58;

  function point(angle, radius) {
    return [Math.sin(angle), Math.cos(angle)].map(part => (CENTRE - radius * part).toFixed(2)).join(" ");
  }

  // The ring between two radii and two angles; the whole ring from half a turn to either side.
  function sector(from, to, inner, outer) {
    const arc = (radius, end, sweep, large) => `A${radius} ${radius} 0 ${large} ${sweep} ${point(end, radius)}`;
    if (to - from > 2 * Math.PI - 1e-3) {
      const ring = radius => `M${point(0, radius)}${arc(radius, Math.PI, 0, 1)}${arc(radius, 2 * Math.PI, 0, 1)}Z`;
      return ring(outer) + (inner > 0 ? ring(inner) : "");
    }
    const large = to - from > Math.PI ? 1 : 0;
    const back = inner > 0 ? `L${point(to, inner)}${arc(inner, from, 1, large)}` : `L${point(0, 0)}`;
    return `M${point(from, outer)}${arc(outer, to, 0, large)}${back}Z`;
  }

  function drawLayer(figure) {
    const layer = data.layers[figure.dataset.layer], group = groups.epoch, axis = data.axes[layer.axis];
    const plot = svg("svg", { viewBox: "-16 0 192 160", role: "img" }, figure);
    svg("circle", { cx: CENTRE, cy: CENTRE, r: RADIUS, class: "grid" }, plot);
    for (const [text, angle] of [["0°", 0], ["90°", Math.PI / 2], ["±180°", Math.PI], ["−90°", -Math.PI / 2]]) {
      const [cx, cy] = point(angle, RADIUS + 11).split(" ");
      const anchor = Math.abs(Math.sin(angle)) < 0.5 ? "middle" : Math.sin(angle) > 0 ? "end" : "start";
      const side = anchor === "middle" ? 0 : anchor === "end" ? 6 : -6;
      svg("text", { x: Number(cx) + side, y: Number(cy) + 4, "text-anchor": anchor }, plot).textContent = text;
    }
    const shape = svg("g", {}, plot), caption = element("p", {}, figure);
    group.followers.push(step => {
      const place = nearest(axis, step), level = layer.level[place], mirror = layer.mirror[place];
      const gates = layer.gates.length ? layer.gates[place] : null, inner = mirror === null ? 0 : RADIUS * 0.5;
      shape.replaceChildren();
      const said = gates ? drawGates(shape, gates, inner) : drawWedge(shape, level, inner);
      if (mirror !== null) said.push(drawMirror(shape, gates || level === null ? 1 : level, mirror));
      caption.textContent = said.join(", ");
      plot.setAttribute("aria-label", `${layer.name} at epoch ${axis[place]}: ${said.join(", ")}`);
    });
  }

  function drawWedge(shape, level, inner) {
    const kept = level === null ? 1 : level, angle = Math.PI * kept, kind = level === null ? "rest" : "wedge tone0";
    svg("path", { d: sector(-angle, angle, inner, RADIUS), class: kind, "fill-rule": "evenodd" }, shape);
    if (level === null) return ["rotations not learned"];
    for (const end of kept < 0.995 ? [-angle, angle] : []) {
      svg("path", { d: `M${point(end, inner)}L${point(end, RADIUS)}`, class: "edge tone0" }, shape);
    }
    return [`θ = ${level.toFixed(3)}`, `±${(180 * level).toFixed(0)}°`];
  }

  function drawMirror(shape, level, mirror) {
    const angle = Math.PI * level;
    const half = svg("path", { d: sector(-angle, angle, 0, RADIUS * 0.45), class: "wedge tone1" }, shape);
    half.style.opacity = 0.85 * mirror;
    return `mirrored: p = ${mirror.toFixed(2)}`;
  }

  function drawGates(shape, gates, inner) {
    const step = 2 * Math.PI / gates.length, half = 0.3 * step;
    gates.forEach((gate, number) => {
      const angle = number * step, from = angle - half, to = angle + half;
      svg("path", { d: sector(from, to, inner, RADIUS), class: "rest" }, shape);
      const outer = inner + (RADIUS - inner) * (gate ?? 0);
      if (gate) svg("path", { d: sector(from, to, inner, outer), class: "wedge tone0" }, shape);
    });
    return [`${gates.reduce((sum, gate) => sum + (gate ?? 0), 0).toFixed(1)} of ${gates.length} rotations`];
  }

  function copy(button) {
    const lines = button.parentElement.querySelector("code"), range = document.createRange();
    range.selectNodeContents(lines);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    const done = () => { button.textContent = "copied"; };
    // Where the browser keeps the clipboard to itself, the lines are selected and a key away.
    if (navigator.clipboard) navigator.clipboard.writeText(lines.textContent).then(done, () => {});
  }

  document.querySelectorAll("figure[data-panel]").forEach(drawPanel);
  document.querySelectorAll("figure[data-layer]").forEach(drawLayer);
  document.querySelectorAll("input[data-group]").forEach(drawSlider);
  document.querySelectorAll("button.copy").forEach(button => button.addEventListener("click", () => copy(button)));
  for (const group of Object.values(groups)) move(group, group.at);
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(part => { part.open = true; }));
})();
