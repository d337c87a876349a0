// Instances as points: two of their values against each other, coloured by flip rate, the pinned ones marked, and each
// found by the pointer and the keys.

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

// A plot in this element, which shows nothing before its first draw.
// page: count, how many instances there are; fifth, of each the place of its flip rate among so many fifths; marks(),
// [row, radius, text] of those to mark; hovered(); hover(row, frame), pin(row, frame) and tell(row), what the pointer and
// the keys do. own: shown(row), whether it passes the filters; escape(), what that key does when no card is open; brush,
// whether a region can be dragged.
function instancePlot(frame, page, own) {
  "use strict";
  const { shown, escape = () => {}, brush = false } = own;
  const REACH = 14; // how far from the pointer an instance is still meant, in px
  const LAYERS = 8; // so many times the fifths of the flip rate are drawn in turn, so that none hides the others
  const BELOW = -1, ABOVE = 1; // canvases: the points are not drawn again when a mark or the region changes
  const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const chart = echarts.init(frame), marks = new echarts.graphic.Group();
  chart.getZr().add(marks);
  let x, y, view; // a value for each row, twice, and {x: [low, high], y: [low, high]} that is in sight
  let toX, toY; // from a row to px within the frame

  const within = (row, box) => x[row] >= box.x[0] && x[row] <= box.x[1] && y[row] >= box.y[0] && y[row] <= box.y[1];
  const inSight = (row) => shown(row) && within(row, view);

  // ---- drawing ----------------------------------------------------------------------------------------------

  function axis([min, max], { name, explained, unit }, nameGap) {
    return {
      type: "value", min, max, name: name + (frame.clientWidth < 520 ? "" : explained) + unit,
      nameLocation: "middle", nameGap, nameTextStyle: { color: colour("ink") }, zlevel: BELOW,
      // An end of the view that is no round number has no label.
      axisLabel: { showMinLabel: min === 0, showMaxLabel: false, color: colour("quiet") },
      axisLine: { show: false }, axisTick: { show: false }, splitLine: { lineStyle: { color: colour("line") } },
    };
  }

  function points() {
    const { count, fifth, fifths } = page, places = Array.from({ length: LAYERS * fifths }, () => []);
    let drawn = 0;
    for (let row = 0; row < count; row++) {
      if (!inSight(row)) continue;
      places[(row % LAYERS) * fifths + fifth[row]].push(x[row], y[row]);
      drawn++;
    }
    const symbolSize = 2 * Math.min(4.5, Math.max(1.7, 160 / Math.sqrt(drawn + 1)));
    const style = { opacity: 0.85, borderColor: colour("edge"), borderWidth: 0.6 };
    return places.map((values, place) => ({
      type: "scatter", large: true, largeThreshold: 0, progressive: 0, silent: true, zlevel: BELOW, symbolSize,
      data: new Float32Array(values), dimensions: ["x", "y"],
      itemStyle: { ...style, color: colour("flip-" + (place % fifths)) },
    })).filter(({ data }) => data.length);
  }

  // values: [x, y]; axes: name, explained (where there is room) and unit of each; lines: what ECharts takes as the data
  // of a markLine; most: the greatest height, in px.
  function draw({ values, view: chosen, axes, lines, most }) {
    [[x, y], view] = [values, chosen];
    frame.style.height = Math.max(320, Math.min(640, frame.clientWidth * 0.62, most)) + "px";
    chart.resize();
    const brushStyle = { color: colour("select"), opacity: 0.12, borderColor: colour("select"), borderWidth: 1.5 };
    const lineStyle = { color: colour("quiet"), width: 1.2, type: "dashed" };
    chart.setOption({
      animation: false,
      grid: { left: 56, right: 14, top: 12, bottom: 46 },
      xAxis: axis(view.x, axes[0], 26),
      yAxis: axis(view.y, axes[1], 38),
      toolbox: { show: false },
      ...(brush && { brush: { xAxisIndex: 0, yAxisIndex: 0, seriesIndex: [], removeOnClick: false, brushStyle } }),
      series: [
        ...points(),
        { type: "scatter", data: [], markLine: { data: lines, lineStyle, symbol: "none", silent: true } },
      ],
    }, true);
    // A finger that moves over the plot scrolls the page.
    const brushType = matchMedia("(pointer: coarse)").matches ? false : "rect";
    const brushOption = { brushType, brushMode: "single" };
    if (brush) chart.dispatchAction({ type: "takeGlobalCursor", key: "brush", brushOption });
    const [[left, bottom], [right, top]] = [0, 1].map((end) =>
      chart.convertToPixel({ gridIndex: 0 }, [view.x[end], view.y[end]]));
    const across = (right - left) / (view.x[1] - view.x[0]), up = (top - bottom) / (view.y[1] - view.y[0]);
    toX = (row) => left + (x[row] - view.x[0]) * across;
    toY = (row) => bottom + (y[row] - view.y[0]) * up;
    drawMarks();
  }

  function drawMarks() {
    const ink = colour("ink"), paper = colour("paper"), common = { silent: true, zlevel: ABOVE };
    marks.removeAll();
    for (const [row, r, text] of page.marks()) {
      if (!within(row, view)) continue;
      const shape = { cx: toX(row), cy: toY(row), r };
      for (const [stroke, lineWidth] of [[paper, 4.5], [ink, 2]]) {
        marks.add(new echarts.graphic.Circle({ ...common, shape, style: { fill: null, stroke, lineWidth } }));
      }
      const place = { x: shape.cx + r + 2, y: shape.cy - r + 4, verticalAlign: "bottom", font: "bold 12px sans-serif" };
      const style = { text: String(text), ...place, fill: ink, stroke: paper, lineWidth: 3 };
      marks.add(new echarts.graphic.Text({ ...common, style }));
    }
  }

  // ---- finding ----------------------------------------------------------------------------------------------

  // The instance in sight for which this is least, by its place; -1 where it is below `most` for none.
  function least(measure, most = Infinity) {
    let best = -1;
    for (let row = 0; row < page.count; row++) {
      const value = inSight(row) ? measure(toX(row), toY(row)) : Infinity;
      if (value < most) [best, most] = [row, value];
    }
    return best;
  }

  const nearest = (atX, atY) => least((otherX, otherY) => (otherX - atX) ** 2 + (otherY - atY) ** 2, REACH * REACH);

  // The nearest instance in a direction, within 45 degrees of it; any where none is given, or one out of sight.
  function towards(from, [across, down]) {
    const start = !within(from, view);
    const found = least((atX, atY) => {
      const along = (atX - toX(from)) * across + (atY - toY(from)) * down;
      const aside = Math.abs((atX - toX(from)) * down + (atY - toY(from)) * across);
      return start ? 0 : along > 0.5 && aside <= along ? along + aside : Infinity;
    });
    return found < 0 ? from : found;
  }

  frame.addEventListener("pointermove", ({ buttons, clientX, clientY }) => {
    const { left, top } = frame.getBoundingClientRect();
    page.hover(buttons ? -1 : nearest(clientX - left, clientY - top), frame);
  });
  for (const kind of ["pointerleave", "blur"]) frame.addEventListener(kind, () => page.hover(-1, frame));
  chart.getZr().on("click", ({ offsetX, offsetY }) => page.pin(nearest(offsetX, offsetY), frame));
  frame.addEventListener("keydown", (event) => {
    const hovered = page.hovered();
    if (event.key in KEYS) {
      page.hover(towards(hovered, KEYS[event.key]), frame);
      page.tell();
    } else if (event.key === "Enter") page.pin(hovered, frame);
    else if (event.key === "Escape") hovered >= 0 ? page.hover(-1, frame) : escape();
    else return;
    event.preventDefault();
  });

  // Where an instance lies in the window, in px.
  function positionOf(row) {
    const { left, top } = frame.getBoundingClientRect();
    return { x: left + toX(row), y: top + toY(row) };
  }

  return { chart, draw, drawMarks, within, positionOf };
}
