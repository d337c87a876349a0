// Two files of the same data, or two measures, against each other: a second plot of the instances of the page.

// page: as `instancePlot` takes it. tools: of the page's program; cardParts gets what cards show of all files.
function compareFiles(page, tools) {
  "use strict";
  const { about, array, byId, element, extent, figures, isSelected, cardParts } = tools;
  const { titles, measures, units, instances, correlations } = about.files;
  const values = array("files", Float32Array), { count } = page; // files x measures x instances
  const column = (place) => values.subarray(place * count, (place + 1) * count);
  // The place of the chosen measure of the chosen file.
  const chosen = (side) =>
    Number(byId(side + "-file").value) * measures.length + Number(byId(side + "-measure").value);
  let x, y;
  const plot = instancePlot(byId("files-chart"), page, { shown: (row) => isSelected(row) && x[row] === x[row] });

  function axis(place) {
    const file = Math.floor(place / measures.length), measure = place % measures.length, title = titles[file];
    const explained = ": " + (title.length > 60 ? title.slice(0, 59) + "…" : title);
    return { name: `${measures[measure]} of ${file + 1}`, explained, unit: units[measure] };
  }

  function draw() {
    const places = [chosen("x"), chosen("y")], alike = places[0] % measures.length === places[1] % measures.length;
    [x, y] = places.map(column);
    const extents = [extent(x), extent(y)];
    // One measure has one scale, on which being the same in both files is a line.
    const common = [0, 1].map((end) => Math[end ? "max" : "min"](extents[0][end], extents[1][end]));
    const view = alike ? { x: common, y: common } : { x: extents[0], y: extents[1] };
    const line = common.map((end) => ({ coord: [end, end] }));
    plot.draw({
      values: [x, y], view, axes: places.map(axis), lines: alike ? [line] : [], most: window.innerHeight - 120,
    });
    const low = Math.min(...places), high = Math.max(...places);
    byId("files-told").textContent = `Rank correlation ${figures(correlations[low][high])}, inside the classes ` +
      `${figures(correlations[high][low])}, over the ${instances.toLocaleString("en")} instances that are in all files.`;
  }

  // Every measure of every file; of an instance that is not in all of them there is none.
  function cardTable(row) {
    const cells = (texts, tag) => texts.map((textContent) => element(tag, { textContent }));
    const told = (value) => (Number.isNaN(value) ? "–" : figures(value));
    const lines = titles.map((title, file) => element("tr", { title }, element("th", { textContent: file + 1 }),
      ...cells(measures.map((_, place) => told(column(file * measures.length + place)[row])), "td")));
    const head = element("tr", {}, ...cells(["file", ...measures], "th"));
    return element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines));
  }

  cardParts.push(cardTable);
  byId("files-controls").addEventListener("change", draw);
  byId("files-controls").addEventListener("submit", (event) => event.preventDefault());
  draw();
  return { ...plot, draw };
}
