
"use strict";
(() => {
  const MARGIN = { left: 56, right: 14, top: 12, bottom: 46 };
  const REACH = 14; // how far from the pointer an instance is still meant, in px
  const CELL = 16; // side of a cell of the grid that finds instances, in px
  const SHEETS_KEPT = 48;
  const byId = (id) => document.getElementById(id);

  // ---- data -------------------------------------------------------------------------------------------------

  const about = JSON.parse(byId("page-data").textContent);
  const sources = byId("sources") && JSON.parse(byId("sources").textContent);

  function array(name, Type) {
    const block = byId("data-" + name);
    const bytes = Uint8Array.from(atob(block.textContent), (character) => character.charCodeAt(0));
    block.remove();
    return new Type(bytes.buffer);
  }

  const index = array("index", Float64Array);
  const label = array("label", Int32Array);
  const group = array("group", Uint8Array);
  const sensitivity = array("sensitivity", Float32Array);
  const variability = array("variability", Float32Array);
  const flipRate = array("flipRate", Float32Array);
  const cleanClass = array("cleanClass", Int32Array);
  const perturbedClass = array("perturbedClass", Int32Array);
  const cleanLoss = array("cleanLoss", Uint16Array);
  const perturbedLoss = array("perturbedLoss", Uint16Array);
  const correct = array("correct", Uint8Array);
  const count = about.instances;

  const fifth = Uint8Array.from(flipRate, (rate) => {
    const inner = about.flipEdges.slice(1, -1);
    return inner.filter((edge) => rate >= Math.fround(edge)).length;
  });

  // The half-precision number that these 16 bits are.
  function half(bits) {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits >> 15 ? -1 : 1;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  }

  const className = (number) => about.classNames[number] ?? String(number);
  const figures = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(3))) : "not finite");
  const mark = (right) => (right ? "✓ " : "✗ ");

  function extent(values) {
    let low = 0, high = 0;
    for (const value of values) {
      if (!Number.isFinite(value)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    const room = (high - low || 1) * 0.03;
    return [low < 0 ? low - room : 0, high + room];
  }

  // ---- state ------------------------------------------------------------------------------------------------

  const whole = { x: extent(variability), y: extent(sensitivity) };
  let view = whole;
  let region = null; // {x: [low, high], y: [low, high]} in nats
  let visible = new Uint8Array(count);
  let hovered = -1;
  const pinned = [];

  function filter() {
    const chosenClass = Number(byId("filter-class").value), chosenGroup = Number(byId("filter-group").value);
    const low = number("flip-low", 0) - 1e-6, high = number("flip-high", 1) + 1e-6;
    for (let row = 0; row < count; row++) {
      visible[row] =
        (chosenClass < 0 || label[row] === chosenClass) && (chosenGroup < 0 || group[row] === chosenGroup) &&
        flipRate[row] >= low && flipRate[row] <= high ? 1 : 0;
    }
  }

  function number(id, otherwise) {
    const value = byId(id).valueAsNumber;
    return Number.isNaN(value) ? otherwise : value;
  }

  function inside(row) {
    return !region || within(row, region);
  }

  function selectedRows() {
    const rows = [];
    for (let row = 0; row < count; row++) if (visible[row] && inside(row)) rows.push(row);
    return rows;
  }

  // ---- drawing ----------------------------------------------------------------------------------------------

  const points = byId("points"), overlay = byId("overlay");
  let width = 0, height = 0, ratio = 1;
  let heads = new Int32Array(0), columns = 0;
  const next = new Int32Array(count);

  const across = () => width - MARGIN.left - MARGIN.right;
  const down = () => height - MARGIN.top - MARGIN.bottom;
  const toX = (value) => MARGIN.left + ((value - view.x[0]) / (view.x[1] - view.x[0])) * across();
  const toY = (value) => height - MARGIN.bottom - ((value - view.y[0]) / (view.y[1] - view.y[0])) * down();
  const fromX = (x) => view.x[0] + ((x - MARGIN.left) / across()) * (view.x[1] - view.x[0]);
  const fromY = (y) => view.y[0] + ((height - MARGIN.bottom - y) / down()) * (view.y[1] - view.y[0]);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const within = (row, { x, y }) =>
    variability[row] >= x[0] && variability[row] <= x[1] && sensitivity[row] >= y[0] && sensitivity[row] <= y[1];
  const shown = (row) => visible[row] && within(row, view);

  function resize() {
    width = byId("plot").clientWidth;
    height = Math.round(Math.min(640, Math.max(320, width * 0.62)));
    ratio = window.devicePixelRatio || 1;
    for (const canvas of [points, overlay]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.height = height + "px";
    }
    drawPoints();
  }

  function context(canvas) {
    const brush = canvas.getContext("2d");
    brush.setTransform(ratio, 0, 0, ratio, 0, 0);
    brush.clearRect(0, 0, width, height);
    return brush;
  }

  function niceStep(span, parts) {
    const rough = span / parts, power = 10 ** Math.floor(Math.log10(rough));
    return power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  }

  function ticks([low, high], parts) {
    const step = niceStep(high - low, parts), found = [];
    for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) found.push(value);
    return found.map((value) => Number(value.toPrecision(6)));
  }

  function drawAxes(brush) {
    brush.font = "12px system-ui, sans-serif";
    brush.strokeStyle = colour("--line");
    brush.fillStyle = colour("--quiet");
    brush.lineWidth = 1;
    brush.textAlign = "center";
    for (const value of ticks(view.x, width / 110)) {
      line(brush, toX(value), MARGIN.top, toX(value), height - MARGIN.bottom);
      brush.fillText(String(value), toX(value), height - MARGIN.bottom + 16);
    }
    brush.textAlign = "right";
    for (const value of ticks(view.y, height / 70)) {
      line(brush, MARGIN.left, toY(value), width - MARGIN.right, toY(value));
      brush.fillText(String(value), MARGIN.left - 7, toY(value) + 4);
    }
    brush.fillStyle = colour("--ink");
    brush.textAlign = "center";
    const narrow = width < 520;
    const nameOfX = narrow ? "variability (nats)" : "variability: standard deviation of the perturbed loss (nats)";
    const nameOfY = narrow ? "sensitivity (nats)" : "sensitivity: mean perturbed loss (nats)";
    brush.fillText(nameOfX + about.reference, (width + MARGIN.left) / 2, height - 10);
    brush.save();
    brush.translate(15, (height - MARGIN.bottom) / 2);
    brush.rotate(-Math.PI / 2);
    brush.fillText(nameOfY + about.reference, 0, 0);
    brush.restore();
  }

  function line(brush, x0, y0, x1, y1) {
    brush.beginPath();
    brush.moveTo(x0, y0);
    brush.lineTo(x1, y1);
    brush.stroke();
  }

  // One picture of a dot for each fifth of the flip rate: copying it is much faster than drawing a circle.
  function stamps(radius) {
    return about.flipEdges.slice(1).map((_, number) => {
      const stamp = document.createElement("canvas");
      const side = Math.ceil((radius + 1) * 2 * ratio);
      stamp.width = stamp.height = side;
      const brush = stamp.getContext("2d");
      brush.globalAlpha = 0.85;
      brush.beginPath();
      brush.arc(side / 2, side / 2, radius * ratio, 0, 2 * Math.PI);
      brush.fillStyle = colour("--flip-" + number);
      brush.fill();
      brush.lineWidth = 0.6 * ratio;
      brush.strokeStyle = colour("--edge");
      brush.stroke();
      return stamp;
    });
  }

  function drawPoints() {
    if (!width) return;
    const brush = context(points);
    drawAxes(brush);
    columns = Math.ceil(width / CELL) + 1;
    heads = new Int32Array(columns * (Math.ceil(height / CELL) + 1)).fill(-1);
    const byFifth = about.flipEdges.slice(1).map(() => []);
    let drawn = 0;
    for (let row = 0; row < count; row++) {
      if (!shown(row)) continue;
      const cell = Math.floor(toY(sensitivity[row]) / CELL) * columns + Math.floor(toX(variability[row]) / CELL);
      next[row] = heads[cell];
      heads[cell] = row;
      byFifth[fifth[row]].push(row);
      drawn++;
    }
    const radius = Math.min(4.5, Math.max(1.7, 160 / Math.sqrt(drawn + 1)));
    const dots = stamps(radius);
    brush.setTransform(1, 0, 0, 1, 0, 0);
    byFifth.forEach((rows, number) => {
      const dot = dots[number], centre = dot.width / 2;
      for (const row of rows) {
        brush.drawImage(dot, toX(variability[row]) * ratio - centre, toY(sensitivity[row]) * ratio - centre);
      }
    });
    drawOverlay();
  }

  function drawOverlay(drag = null) {
    const brush = context(overlay);
    const chosen = region && { x0: toX(region.x[0]), x1: toX(region.x[1]), y0: toY(region.y[1]), y1: toY(region.y[0]) };
    const box = drag ?? chosen;
    brush.save();
    brush.beginPath();
    brush.rect(MARGIN.left - 8, MARGIN.top - 8, across() + 16, down() + 16);
    brush.clip();
    if (box) {
      brush.fillStyle = brush.strokeStyle = colour("--select");
      brush.globalAlpha = 0.1;
      brush.fillRect(box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0);
      brush.globalAlpha = 1;
      brush.lineWidth = 1.5;
      brush.setLineDash([5, 3]);
      brush.strokeRect(box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0);
      brush.setLineDash([]);
    }
    brush.font = "bold 12px system-ui, sans-serif";
    brush.textAlign = "left";
    pinned.forEach(({ row }, place) => ring(brush, row, 7, String(place + 1)));
    if (hovered >= 0) ring(brush, hovered, 9, "");
    brush.restore();
  }

  function ring(brush, row, radius, text) {
    const x = toX(variability[row]), y = toY(sensitivity[row]);
    for (const [stroke, size] of [["--paper", 4.5], ["--ink", 2]]) {
      brush.strokeStyle = colour(stroke);
      brush.lineWidth = size;
      brush.beginPath();
      brush.arc(x, y, radius, 0, 2 * Math.PI);
      brush.stroke();
      if (text) brush.strokeText(text, x + radius + 3, y - radius + 3);
      if (stroke === "--paper") continue;
      brush.fillStyle = colour("--paper");
      if (text) brush.fillText(text, x + radius + 3, y - radius + 3);
    }
  }

  // ---- finding ----------------------------------------------------------------------------------------------

  function nearest(x, y) {
    let best = -1, distance = REACH * REACH;
    const span = Math.ceil(REACH / CELL), column = Math.floor(x / CELL), line = Math.floor(y / CELL);
    for (let down = -span; down <= span; down++) {
      for (let across = -span; across <= span; across++) {
        if (column + across < 0 || column + across >= columns) continue;
        for (let row = heads[(line + down) * columns + column + across] ?? -1; row >= 0; row = next[row]) {
          const apart = (toX(variability[row]) - x) ** 2 + (toY(sensitivity[row]) - y) ** 2;
          if (apart < distance) [best, distance] = [row, apart];
        }
      }
    }
    return best;
  }

  // The nearest instance in a direction, within 45 degrees of it.
  function towards(from, across, down) {
    const x = toX(variability[from]), y = toY(sensitivity[from]);
    let best = from, distance = Infinity;
    for (let row = 0; row < count; row++) {
      if (row === from || !shown(row)) continue;
      const dx = toX(variability[row]) - x, dy = toY(sensitivity[row]) - y;
      const along = dx * across + dy * down, aside = Math.abs(dx * down + dy * across);
      if (along > 0.5 && aside <= along && along + aside < distance) [best, distance] = [row, along + aside];
    }
    return best;
  }

  // ---- cards ------------------------------------------------------------------------------------------------

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  const sheets = new Map();

  function sheet(kind, number) {
    const key = "sheet-" + kind + "-" + number;
    const kept = sheets.get(key) ?? new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image);
      image.onerror = reject;
      image.src = "data:" + about.thumbnails.mime + ";base64," + byId(key).textContent;
    });
    // The one used last is the last to be dropped.
    sheets.delete(key);
    sheets.set(key, kept);
    if (sheets.size > SHEETS_KEPT) sheets.delete(sheets.keys().next().value);
    return kept;
  }

  function picture(row, kind, caption) {
    const { width: wide, height: high, columns: perLine, perSheet, crisp } = about.thumbnails;
    const fit = 112 / Math.max(wide, high);
    const canvas = element("canvas", { width: wide, height: high, className: crisp ? "crisp" : "" });
    canvas.style.width = Math.round(wide * (crisp ? Math.max(1, Math.floor(fit)) : fit)) + "px";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", kind + " input of instance " + index[row]);
    sheet(kind, Math.floor(row / perSheet)).then((image) => {
      const place = row % perSheet;
      const left = (place % perLine) * wide, top = Math.floor(place / perLine) * high;
      canvas.getContext("2d").drawImage(image, left, top, wide, high, 0, 0, wide, high);
      canvas.dataset.drawn = "1";
    }).catch(() => canvas.remove());
    return element("figure", {}, canvas, element("figcaption", { textContent: caption }));
  }

  function card(row) {
    const last = correct[(about.times.length - 1) * count + row];
    const predictions = [mark(last & 1) + className(cleanClass[row]), mark(last & 2) + className(perturbedClass[row])];
    const title = element("h3", { textContent: `#${index[row]}: ${className(label[row])}` });
    const made = element("div", { className: "card" }, title);
    if (about.thumbnails) {
      const captions = ["clean: " + predictions[0], "perturbed: " + predictions[1]];
      const pictures = about.thumbnails.kinds.map((kind, place) => picture(row, kind, captions[place]));
      made.append(element("div", { className: "pictures" }, ...pictures));
    }
    if (about.kind === "text" && sources) {
      made.append(element("span", { className: "text", textContent: sources[row] }));
    }
    const entries = {
      sensitivity: figures(sensitivity[row]), variability: figures(variability[row]),
      "flip rate": figures(flipRate[row]), group: about.groupNames[group[row]],
    };
    if (!about.thumbnails || about.thumbnails.kinds.length < 2) {
      Object.assign(entries, { "clean: predicted": predictions[0], "perturbed: predicted": predictions[1] });
    }
    made.append(element("dl", {}, ...Object.entries(entries).map(([name, value]) =>
      element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value })))));
    made.append(chart(row));
    made.append(element("p", { className: "key quiet" },
      element("span", { className: "clean-key", textContent: "clean loss" }),
      element("span", { className: "perturbed-key", textContent: "perturbed" }),
      element("span", { textContent: "● right" }), element("span", { textContent: "○ wrong" })));
    if (about.kind === "image" && sources) {
      made.append(element("p", { className: "quiet source", textContent: sources[row] }));
    }
    return made;
  }

  function drawing(tag, attributes, text = "") {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return made;
  }

  // The losses of one instance over the checkpoints.
  function chart(row) {
    const size = { width: 276, height: 128 }, edge = { left: 32, right: 16, top: 8, bottom: 30 };
    const overTime = (stored) => about.times.map((_, place) => half(stored[place * count + row]));
    const losses = [overTime(cleanLoss), overTime(perturbedLoss)];
    const top = Math.max(1e-6, ...losses.flat().filter(Number.isFinite)) * 1.05;
    const first = about.times[0], span = about.times[about.times.length - 1] - first || 1;
    const x = (time) => edge.left + ((time - first) / span) * (size.width - edge.left - edge.right);
    const y = (loss) => size.height - edge.bottom - (loss / top) * (size.height - edge.top - edge.bottom);
    const viewBox = `0 0 ${size.width} ${size.height}`;
    const made = drawing("svg", { viewBox, role: "img", "aria-label": describeLosses(losses) });
    const write = (text, x, y, anchor = "middle") =>
      made.append(drawing("text", { x, y, "text-anchor": anchor }, String(text)));
    for (const value of ticks([0, top], 3)) {
      const ends = { x1: edge.left, x2: size.width - edge.right, y1: y(value), y2: y(value) };
      made.append(drawing("line", { class: "axis", ...ends }));
      write(value, edge.left - 4, y(value) + 3.5, "end");
    }
    const times = about.times.length > 1 ? ticks([first, first + span], 5) : about.times;
    for (const time of times) write(time, x(time), size.height - 18);
    write(about.timeUnit, (size.width + edge.left) / 2, size.height - 4);
    ["clean", "perturbed"].forEach((kind, which) => {
      const places = about.times.map((_, place) => place).filter((place) => Number.isFinite(losses[which][place]));
      const corners = places.map((place) => x(about.times[place]) + "," + y(losses[which][place]));
      made.append(drawing("polyline", { class: kind + "-line", points: corners.join(" ") }));
      for (const place of places) {
        const kindOfDot = `${kind}-dot ${correct[place * count + row] & (which + 1) ? "right" : "wrong"}`;
        const centre = { cx: x(about.times[place]), cy: y(losses[which][place]) };
        made.append(drawing("circle", { class: kindOfDot, ...centre, r: 2.8 }));
      }
    });
    return made;
  }

  function describeLosses(losses) {
    const [clean, perturbed] = losses.map((values) => figures(values[0]) + " to " + figures(values[values.length - 1]));
    return `clean loss from ${clean}, perturbed loss from ${perturbed}`;
  }

  function hover(row, announce = false) {
    if (row === hovered) return;
    hovered = row;
    const floating = byId("card");
    floating.hidden = row < 0;
    floating.replaceChildren(...(row < 0 ? [] : [card(row)]));
    if (row >= 0) placeCard(floating, row);
    if (announce && row >= 0) {
      byId("announce").textContent = `instance ${index[row]}, ${className(label[row])}, ` +
        `sensitivity ${figures(sensitivity[row])}, variability ${figures(variability[row])}, ` +
        `flip rate ${figures(flipRate[row])}`;
    }
    drawOverlay();
  }

  // Beside its instance, on the side where there is room.
  function placeCard(floating, row) {
    const frame = overlay.getBoundingClientRect(), gap = 16;
    const x = frame.left + toX(variability[row]), y = frame.top + toY(sensitivity[row]);
    const { offsetWidth: wide, offsetHeight: high } = floating;
    const left = x + gap + wide < document.documentElement.clientWidth ? x + gap : x - gap - wide;
    const top = Math.min(window.innerHeight - high - 6, y - high / 3);
    floating.style.left = Math.max(4, left) + "px";
    floating.style.top = Math.max(4, top) + "px";
  }

  function pin(row) {
    if (pinned.some((other) => other.row === row)) return;
    const made = card(row);
    const remove = element("button", { type: "button", className: "remove", textContent: "×" });
    remove.setAttribute("aria-label", "unpin instance " + index[row]);
    remove.addEventListener("click", () => {
      pinned.splice(pinned.findIndex((other) => other.row === row), 1);
      made.remove();
      showPins();
    });
    made.append(remove);
    pinned.push({ row, made });
    byId("pinned").prepend(made);
    byId("pinned").scrollTop = 0;
    showPins();
  }

  function showPins() {
    byId("pinned-empty").hidden = pinned.length > 0;
    pinned.forEach(({ row, made }, place) => {
      made.querySelector("h3").textContent = `${place + 1}. #${index[row]}: ${className(label[row])}`;
    });
    drawOverlay();
  }

  // ---- controls ---------------------------------------------------------------------------------------------

  function options(select, first, names, keep) {
    const listed = names.map((name, place) => new Option(name, place)).filter((_, place) => keep(place));
    select.append(new Option(first, "-1"), ...listed);
  }

  function showCount() {
    const rows = selectedRows();
    let all = 0;
    for (let row = 0; row < count; row++) all += visible[row];
    const format = (value) => value.toLocaleString("en");
    byId("count").textContent = `${format(all)} of ${format(count)} instances pass the filters` +
      (region ? `, ${format(rows.length)} of them lie in the region` : "; no region is selected") + ".";
    byId("download").textContent = `Download ${format(rows.length)} indices (CSV)`;
    byId("download").disabled = rows.length === 0;
    byId("clear").disabled = byId("zoom-in").disabled = !region;
    byId("zoom-out").disabled = view === whole;
  }

  function setRegion(chosen) {
    region = chosen;
    const values = region ? [...region.x, ...region.y].map((value) => Number(value.toPrecision(5))) : ["", "", "", ""];
    ["x-low", "x-high", "y-low", "y-high"].forEach((id, place) => (byId(id).value = values[place]));
    drawOverlay();
    showCount();
  }

  function readRegion() {
    const ends = ["x-low", "x-high", "y-low", "y-high"].map((id) => byId(id).valueAsNumber);
    const given = ends.map((value, place) => (Number.isNaN(value) ? (place % 2 ? Infinity : -Infinity) : value));
    const cut = ([low, high], [first, last]) => [Math.max(low, first), Math.min(high, last)];
    const typed = { x: cut(given.slice(0, 2), whole.x), y: cut(given.slice(2), whole.y) };
    region = ends.every(Number.isNaN) ? null : typed;
    drawOverlay();
    showCount();
  }

  function setView(chosen) {
    view = chosen;
    hover(-1);
    drawPoints();
    showCount();
  }

  function quoted(text) {
    return /[",\n\r]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  }

  function csv(rows) {
    const lines = ["index,label,class,sensitivity,variability,flip_rate"];
    for (const row of rows) {
      const measures = [sensitivity[row], variability[row], flipRate[row]].map((value) => Number(value.toPrecision(7)));
      lines.push([index[row], label[row], quoted(className(label[row])), ...measures].join(","));
    }
    return lines.join("\n") + "\n";
  }

  function download() {
    const url = URL.createObjectURL(new Blob([csv(selectedRows())], { type: "text/csv" }));
    const link = element("a", { href: url, download: about.stem + "_selection.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }

  let waiting = false;
  function refilter() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      filter();
      hover(-1);
      drawPoints();
      showCount();
    });
  }

  function point(event) {
    const frame = overlay.getBoundingClientRect();
    return { x: event.clientX - frame.left, y: event.clientY - frame.top };
  }

  let press = null, dragged = null;

  function clamped({ x, y }) {
    return {
      x: Math.min(width - MARGIN.right, Math.max(MARGIN.left, x)),
      y: Math.min(height - MARGIN.bottom, Math.max(MARGIN.top, y)),
    };
  }

  overlay.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    press = point(event);
    dragged = null;
    overlay.setPointerCapture(event.pointerId);
  });
  overlay.addEventListener("pointermove", (event) => {
    const { x, y } = point(event);
    if (!press) return hover(nearest(x, y));
    if (!dragged && Math.hypot(x - press.x, y - press.y) < 5) return;
    hover(-1);
    const a = clamped(press), b = clamped({ x, y });
    dragged = { x0: Math.min(a.x, b.x), x1: Math.max(a.x, b.x), y0: Math.min(a.y, b.y), y1: Math.max(a.y, b.y) };
    drawOverlay(dragged);
  });
  overlay.addEventListener("pointerup", (event) => {
    if (!press) return;
    const { x, y } = point(event), box = dragged;
    press = dragged = null;
    if (box) return setRegion({ x: [fromX(box.x0), fromX(box.x1)], y: [fromY(box.y1), fromY(box.y0)] });
    const row = nearest(x, y);
    if (row >= 0) pin(row);
  });
  overlay.addEventListener("pointercancel", () => {
    press = dragged = null;
    drawOverlay();
  });
  overlay.addEventListener("pointerleave", () => press || hover(-1));
  overlay.addEventListener("blur", () => hover(-1));
  window.addEventListener("scroll", () => hover(-1), { passive: true });
  overlay.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in steps) {
      let start = hovered;
      for (let row = 0; start < 0 && row < count; row++) if (shown(row)) start = row;
      if (start >= 0) hover(hovered < 0 ? start : towards(start, ...steps[event.key]), true);
    } else if (event.key === "Enter" && hovered >= 0) pin(hovered);
    else if (event.key === "Escape") hovered >= 0 ? hover(-1) : setRegion(null);
    else return;
    event.preventDefault();
  });

  byId("download").addEventListener("click", download);
  byId("clear").addEventListener("click", () => setRegion(null));
  byId("zoom-in").addEventListener("click", () => {
    const spans = [region.x, region.y].map(([low, high]) => high - low);
    if (Math.min(...spans) > 0) setView({ x: region.x, y: region.y });
  });
  byId("zoom-out").addEventListener("click", () => setView(whole));
  byId("region").addEventListener("input", readRegion);
  byId("region").addEventListener("submit", (event) => event.preventDefault());
  // Assistive programs may change a list without an "input" event.
  for (const kind of ["input", "change"]) {
    byId("controls").addEventListener(kind, (event) => event.target.id === "find-index" || refilter());
  }
  byId("controls").addEventListener("submit", (event) => {
    event.preventDefault();
    const row = index.indexOf(number("find-index", -1));
    byId("announce").textContent = row < 0 ? "no such instance on this page" : "pinned";
    byId("find-index").setCustomValidity(row < 0 ? "no such instance on this page" : "");
    byId("find-index").reportValidity();
    if (row >= 0) pin(row);
  });
  byId("find-index").addEventListener("input", (event) => event.target.setCustomValidity(""));
  for (const sample of document.querySelectorAll("button[data-row]")) {
    sample.addEventListener("click", () => {
      byId("map").scrollIntoView();
      pin(Number(sample.dataset.row));
    });
  }

  function sortable(table) {
    table.querySelectorAll("thead th").forEach((heading, column) => {
      const button = element("button", { type: "button", textContent: heading.textContent });
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "descending" ? 1 : -1;
        for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", down > 0 ? "ascending" : "descending");
        const number = (line) => line.children[column].dataset.value;
        const text = (line) => line.children[column].textContent;
        const compare = (a, b) => number(a) === undefined ? text(a).localeCompare(text(b)) : number(a) - number(b);
        const body = table.tBodies[0];
        body.append(...[...body.rows].sort((a, b) => down * compare(a, b)));
      });
      heading.replaceChildren(button);
    });
  }

  // ---- start ------------------------------------------------------------------------------------------------

  const present = new Set(label), groupsPresent = new Set(group);
  options(byId("filter-class"), "all", about.classNames, (place) => present.has(place));
  options(byId("filter-group"), "all", about.groupNames, (place) => groupsPresent.has(place));
  byId("legend").append("flip rate", ...about.flipEdges.slice(1).map((high, place) => {
    const dot = element("i");
    dot.style.background = `var(--flip-${place})`;
    return element("span", {}, dot, `${about.flipEdges[place].toFixed(1)} to ${high.toFixed(1)}`);
  }));
  document.querySelectorAll("table.sortable").forEach(sortable);
  filter();
  showCount();
  new ResizeObserver(() => byId("plot").clientWidth !== width && resize()).observe(byId("plot"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawPoints);
  resize();
  // For scripts that drive the page: where an instance lies in the window, in px.
  window.robustDataMap = {
    positionOf: (wanted) => {
      const row = index.indexOf(wanted), frame = overlay.getBoundingClientRect();
      return { x: frame.left + toX(variability[row]), y: frame.top + toY(sensitivity[row]) };
    },
  };
})();
