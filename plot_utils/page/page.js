// The page: its data, the map, the cards and the controls.
(() => {
  "use strict";
  const SHEETS_KEPT = 48;
  const byId = (id) => document.getElementById(id);

  // ---- data -------------------------------------------------------------------------------------------------

  const about = JSON.parse(byId("page-data").textContent);
  const sources = byId("sources") && JSON.parse(byId("sources").textContent);

  function array(name, Type) {
    const text = byId("data-" + name).textContent;
    byId("data-" + name).remove();
    return new Type(Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer);
  }

  const index = array("index", Float64Array), label = array("label", Int32Array), group = array("group", Uint8Array);
  const sensitivity = array("sensitivity", Float32Array), across = array("across", Float32Array);
  const flipRate = array("flipRate", Float32Array), correct = array("correct", Uint8Array);
  const predictions = [array("cleanClass", Int32Array), array("perturbedClass", Int32Array)];
  const losses = [array("cleanLoss", Uint16Array), array("perturbedLoss", Uint16Array)];
  const listed = array("listed", Uint8Array); // a bit for each list that an instance is on
  const evidence = {
    fragile_share: array("fragileShare", Float32Array), aum: array("aum", Float32Array),
    learned_at_step: array("learnedAt", Float32Array), rank_in_class: array("rankInClass", Float32Array),
  };
  const count = about.instances, fifths = about.flipEdges.length - 1;
  const innerEdges = about.flipEdges.slice(1, -1).map(Math.fround);
  const fifth = Uint8Array.from(flipRate, (rate) => innerEdges.filter((edge) => rate >= edge).length);

  // The half-precision number that these 16 bits are.
  function half(bits) {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits >> 15 ? -1 : 1;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  }

  const saved = { sensitivity, [about.across.name.replace(" ", "_")]: across, flip_rate: flipRate }; // what every download holds
  const className = (number) => about.classNames[number] ?? String(number);
  const title = (row) => `#${index[row]}: ${className(label[row])}`;
  const figures = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(3))) : "not finite");
  const measures = (row) => ({
    sensitivity: figures(sensitivity[row]), [about.across.name]: figures(across[row]),
    "flip rate": figures(flipRate[row]),
  });

  const isOn = (row, list) => (listed[row] >> list) & 1;

  function extent(values) {
    const finite = values.filter(Number.isFinite), low = finite.reduce((a, b) => Math.min(a, b), 0);
    const high = finite.reduce((a, b) => Math.max(a, b), 0), room = (high - low || 1) * 0.03;
    return [low < 0 ? low - room : 0, high + room];
  }

  // ---- state ------------------------------------------------------------------------------------------------

  const whole = { x: extent(across), y: extent(sensitivity) };
  let view = whole;
  let region = null; // {x: [low, high], y: [low, high]} in nats
  let hovered = -1;
  const visible = new Uint8Array(count), pinned = [];

  const given = (id, otherwise) => (byId(id).value === "" ? otherwise : byId(id).valueAsNumber);

  function filter() {
    const [chosenClass, chosenGroup, chosenList] =
      ["class", "group", "list"].map((kind) => Number(byId("filter-" + kind).value));
    const low = given("flip-low", 0) - 1e-6, high = given("flip-high", 1) + 1e-6;
    for (let row = 0; row < count; row++) {
      visible[row] = (chosenClass < 0 || label[row] === chosenClass) &&
        (chosenGroup < 0 || group[row] === chosenGroup) && (chosenList < 0 || isOn(row, chosenList)) &&
        flipRate[row] >= low && flipRate[row] <= high;
    }
  }

  // ---- map --------------------------------------------------------------------------------------------------

  const plots = []; // each draws itself anew by draw(), and its marks by drawMarks()
  const page = {
    count, fifth, fifths, hover, pin, tell,
    hovered: () => hovered,
    marks: () => [...pinned.map(({ row }, place) => [row, 7, place + 1]), [hovered, 9, ""]],
  };
  const map = instancePlot(byId("chart"), page, {
    shown: (row) => visible[row], escape: () => setRegion(null), brush: true,
  });
  plots.push({ ...map, draw: drawMap });
  const drawOthers = () => plots.slice(1).forEach((plot) => plot.draw());

  const isSelected = (row) => visible[row] && (!region || map.within(row, region));
  const selectedRows = () => [...index.keys()].filter(isSelected);

  function drawMap() {
    const unit = " (nats)" + about.reference;
    const axes = [
      { name: about.across.name, explained: ": " + about.across.explained, unit },
      { name: "sensitivity", explained: ": mean perturbed loss", unit },
    ];
    // The whole map is to be seen when the page opens.
    const most = window.innerHeight - byId("chart").getBoundingClientRect().top - window.scrollY - 8;
    map.draw({ values: [across, sensitivity], view, axes, lines: bounds(), most });
    drawRegion();
  }

  // The sensitivities that part the groups.
  function bounds() {
    const label = { color: colour("ink"), textBorderColor: colour("panel"), textBorderWidth: 3 };
    const words = [["insideEndBottom", "robust third"], ["insideEndTop", "non-robust third"]];
    const lines = words.map(([position, formatter], which) =>
      ({ yAxis: about.groupBounds[which], label: { ...label, position, formatter } }));
    return lines.filter((line) => line.yAxis !== null);
  }

  function drawRegion() {
    const areas = region ? [{ brushType: "rect", xAxisIndex: 0, yAxisIndex: 0, coordRange: [region.x, region.y] }] : [];
    map.chart.dispatchAction({ type: "brush", areas });
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
      const src = "data:" + about.thumbnails.mime + ";base64," + byId(key).textContent;
      const image = Object.assign(new Image(), { onload: () => resolve(image), onerror: reject, src });
    });
    // The one used last is the last to be dropped.
    sheets.delete(key);
    sheets.set(key, kept);
    if (sheets.size > SHEETS_KEPT) sheets.delete(sheets.keys().next().value);
    return kept;
  }

  function picture(row, kind, caption) {
    const { width, height, columns, perSheet, crisp } = about.thumbnails;
    const fit = 112 / Math.max(width, height), place = row % perSheet;
    const canvas = element("canvas", { width, height, className: crisp ? "crisp" : "" });
    canvas.style.width = Math.round(width * (crisp ? Math.max(1, Math.floor(fit)) : fit)) + "px";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", kind + " input of instance " + index[row]);
    sheet(kind, Math.floor(row / perSheet)).then((image) => {
      const left = (place % columns) * width, top = Math.floor(place / columns) * height;
      canvas.getContext("2d").drawImage(image, left, top, width, height, 0, 0, width, height);
      canvas.dataset.drawn = "1";
    }).catch(() => canvas.remove());
    return element("figure", {}, canvas, element("figcaption", { textContent: caption }));
  }

  const cardParts = []; // functions of a row that give what else its card holds

  function card(row) {
    const made = byId("card-template").content.firstElementChild.cloneNode(true);
    const last = correct[(about.times.length - 1) * count + row], kinds = about.thumbnails?.kinds ?? [];
    const predicted = predictions.map((of, which) => (last & (which + 1) ? "✓ " : "✗ ") + className(of[row]));
    const entries = { ...measures(row), group: about.groupNames[group[row]] };
    const pictures = kinds.map((kind, which) => picture(row, kind, `${kind}: ${predicted[which]}`));
    if (kinds.length < 2) [entries["clean: predicted"], entries["perturbed: predicted"]] = predicted;
    made.querySelector("h3").textContent = title(row);
    made.querySelector(".pictures").append(...pictures);
    made.querySelector(about.kind === "text" ? ".text" : ".source").textContent = sources?.[row] ?? "";
    made.querySelector("dl").append(...Object.entries(entries).map(([name, value]) =>
      element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value }))));
    const lists = about.lists.filter((_, list) => isOn(row, list)).join(", ");
    made.querySelector(".lists").textContent = lists && "list: " + lists;
    drawLosses(made.querySelector("svg"), row);
    made.append(...cardParts.map((part) => part(row)));
    return made;
  }

  // The losses of one instance over the checkpoints, by hand: the card under the pointer is made anew at each movement.
  function drawLosses(chart, row) {
    const values = losses.map((stored) => about.times.map((_, place) => half(stored[place * count + row])));
    const most = Math.max(1e-6, ...values.flat().filter(Number.isFinite));
    const first = about.times[0], final = about.times.at(-1);
    const x = (time) => 34 + ((time - first) / (final - first || 1)) * 230, y = (loss) => 82 - (loss / most) * 72;
    function add(tag, attributes, textContent = "") {
      const part = document.createElementNS(chart.namespaceURI, tag);
      for (const [name, value] of Object.entries(attributes)) part.setAttribute(name, value);
      chart.append(Object.assign(part, { textContent }));
    }
    for (const loss of [0, most]) {
      add("line", { class: "axis", x1: 34, x2: 264, y1: y(loss), y2: y(loss) });
      add("text", { x: 30, y: y(loss) + 3.5, "text-anchor": "end" }, figures(loss));
    }
    add("text", { x: 149, y: 106, "text-anchor": "middle" }, about.timeUnit);
    for (const time of new Set([first, final])) {
      add("text", { x: x(time), y: 94, "text-anchor": "middle" }, figures(time));
    }
    ["clean", "perturbed"].forEach((kind, which) => {
      const finite = [...about.times.keys()].filter((place) => Number.isFinite(values[which][place]));
      const dots = finite.map((place) => ({ cx: x(about.times[place]), cy: y(values[which][place]), r: 2.8 }));
      add("polyline", { class: kind + "-line", points: dots.map(({ cx, cy }) => cx + "," + cy).join(" ") });
      dots.forEach((dot, number) => {
        const right = correct[finite[number] * count + row] & (which + 1) ? "right" : "wrong";
        add("circle", { class: `${kind}-dot ${right}`, ...dot });
      });
    });
    const [clean, perturbed] = values.map((own) => `loss from ${figures(own[0])} to ${figures(own.at(-1))}`);
    chart.setAttribute("aria-label", `clean ${clean}, perturbed ${perturbed}`);
  }

  // The cards are beside the plot in whose frame an instance was found.
  function bringCards(frame) {
    const stage = frame.parentNode.parentNode;
    if (byId("side").parentNode !== stage) stage.append(byId("side"));
  }

  const drawMarks = () => plots.forEach((plot) => plot.drawMarks());

  function hover(row, frame) {
    if (row === hovered) return;
    hovered = row;
    if (row >= 0) bringCards(frame);
    byId("card").hidden = row < 0;
    byId("card").replaceChildren(...(row < 0 ? [] : [card(row)]));
    drawMarks();
  }

  function tell() {
    const told = Object.entries(measures(hovered)).map((entry) => entry.join(" "));
    const name = "instance " + index[hovered];
    byId("announce").textContent = hovered < 0 ? "" : [name, className(label[hovered]), ...told].join(", ");
  }

  function pin(row, frame = byId("chart")) {
    if (row >= 0) bringCards(frame);
    if (row < 0 || pinned.some((other) => other.row === row)) return;
    const made = card(row), remove = element("button", { type: "button", className: "remove", textContent: "×" });
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
    pinned.forEach(({ row, made }, place) => (made.querySelector("h3").textContent = `${place + 1}. ${title(row)}`));
    drawMarks();
  }

  // ---- controls ---------------------------------------------------------------------------------------------

  function showCount() {
    const format = (value) => value.toLocaleString("en"), selected = format(selectedRows().length);
    byId("count").textContent = `${format(visible.reduce((sum, one) => sum + one, 0))} of ${format(count)} instances ` +
      `pass the filters${region ? `, ${selected} of them lie in the region` : "; no region is selected"}.`;
    byId("download").textContent = `Download ${selected} indices (CSV)`;
    byId("download").disabled = selected === "0";
    byId("clear").disabled = byId("zoom-in").disabled = !region;
    byId("zoom-out").disabled = view === whole;
  }

  const fields = ["x-low", "x-high", "y-low", "y-high"];

  function setRegion(chosen, typed = false) {
    region = chosen;
    const values = region ? [...region.x, ...region.y].map((value) => Number(value.toPrecision(5))) : [];
    if (!typed) fields.forEach((id, place) => (byId(id).value = values[place] ?? ""));
    drawRegion();
    drawOthers();
    showCount();
  }

  function readRegion() {
    const cut = (name, [low, high]) =>
      [Math.max(low, given(name + "-low", low)), Math.min(high, given(name + "-high", high))];
    const typed = fields.some((id) => byId(id).value !== "");
    setRegion(typed ? { x: cut("x", whole.x), y: cut("y", whole.y) } : null, true);
  }

  function setView(chosen) {
    view = chosen;
    hover(-1);
    drawMap();
    showCount();
  }

  // Save a CSV of these instances; columns: arrays by name. A value that is not finite has an empty cell.
  function download(rows, name, columns) {
    // As `robust_data.tables` writes a text: never a formula of a spreadsheet.
    const plain = (text) => (/^'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20][^]/.test(text) && !isNumber(text) ? "'" + text : text);
    const isNumber = (text) => /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text);
    const quoted = (text) => (/[",\n\r]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text);
    const cell = (value) => (Number.isFinite(value) ? Number(value.toPrecision(7)) : "");
    const lines = rows.map((row) => {
      const values = Object.values(columns).map((column) => cell(column[row]));
      return [index[row], label[row], quoted(plain(className(label[row]))), ...values].join(",") + "\n";
    });
    const header = ["index", "label", "class", ...Object.keys(columns)].join(",") + "\n";
    const href = URL.createObjectURL(new Blob([header, ...lines], { type: "text/csv" }));
    element("a", { href, download: `${about.stem}_${name}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10000);
  }

  let waiting = 0;
  function refilter() {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => {
      filter();
      setView(view);
      drawOthers();
    });
  }

  map.chart.on("brushEnd", ({ areas: [area] }) =>
    setRegion(area ? { x: area.coordRange[0], y: area.coordRange[1] } : null));
  byId("download").addEventListener("click", () => download(selectedRows(), "selection", saved));
  byId("clear").addEventListener("click", () => setRegion(null));
  byId("zoom-in").addEventListener("click", () => {
    if ([region.x, region.y].every(([low, high]) => high > low)) setView({ ...region });
  });
  byId("zoom-out").addEventListener("click", () => setView(whole));
  byId("region").addEventListener("input", readRegion);
  byId("region").addEventListener("submit", (event) => event.preventDefault());
  // Assistive programs may change a list without an "input" event.
  for (const kind of ["input", "change"]) {
    byId("controls").addEventListener(kind, ({ target }) => target.id === "find-index" || refilter());
  }
  byId("controls").addEventListener("submit", (event) => {
    event.preventDefault();
    const row = index.indexOf(given("find-index", -1));
    byId("found").textContent = row < 0 ? "no such instance on this page" : `#${index[row]} is pinned`;
    pin(row);
  });
  for (const button of document.querySelectorAll("button[data-show]")) {
    button.addEventListener("click", () => {
      byId("filter-list").value = button.dataset.show;
      refilter();
      byId("map").scrollIntoView();
    });
  }
  for (const button of document.querySelectorAll("button[data-save]")) {
    button.addEventListener("click", () => {
      const list = Number(button.dataset.save), rows = [...index.keys()].filter((row) => isOn(row, list));
      download(rows, about.lists[list].replace(/\W/g, "_"), { ...saved, ...evidence });
    });
  }
  for (const sample of document.querySelectorAll("button[data-row]")) {
    sample.addEventListener("click", () => {
      byId("map").scrollIntoView();
      pin(Number(sample.dataset.row));
    });
  }

  // A heading of a table sorts it by its column.
  const sortable = [...document.querySelectorAll("table.sortable thead tr")].map((row) => [...row.children]);
  sortable.forEach((headings) => headings.forEach((heading, column) => {
    const button = element("button", { type: "button", textContent: heading.textContent });
    button.addEventListener("click", () => {
      const sign = heading.getAttribute("aria-sort") === "descending" ? 1 : -1;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const cells = ([one, other]) => [one.children[column], other.children[column]];
      const compare = ([a, b]) => a.dataset.value - b.dataset.value || a.textContent.localeCompare(b.textContent);
      const body = heading.closest("table").tBodies[0];
      body.append(...[...body.rows].sort((...lines) => sign * compare(cells(lines))));
    });
    heading.replaceChildren(button);
  }));

  // ---- start ------------------------------------------------------------------------------------------------

  for (const [kind, names, numbers] of [["class", about.classNames, label], ["group", about.groupNames, group]]) {
    const present = [...new Set(numbers)].sort((a, b) => a - b).map((number) => new Option(names[number], number));
    byId("filter-" + kind).append(new Option("all", "-1"), ...present);
  }
  byId("filter-list").append(new Option("all", "-1"), ...about.lists.map((name, number) => new Option(name, number)));
  byId("legend").append("flip rate", ...about.flipNames.flatMap((name, place) => {
    const dot = element("i");
    dot.style.background = `var(--flip-${place})`;
    return name ? [element("span", {}, dot, name)] : [];
  }));
  filter();
  drawMap();
  showCount();
  if (about.files) {
    plots.push(compareFiles(page, { about, array, byId, element, extent, figures, isSelected, cardParts }));
  }
  const drawAll = () => plots.forEach((plot) => plot.draw());
  window.addEventListener("resize", drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  // For scripts that drive the page: where an instance lies in the window, in px, on the first or another plot.
  window.robustDataMap = { positionOf: (wanted, plot = 0) => plots[plot].positionOf(index.indexOf(wanted)) };
})();
