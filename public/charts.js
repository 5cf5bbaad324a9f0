/**
 * The dashboard's charts: rows of a panel in, an SVG element out, by Observable Plot. A series is told by its texture or
 * dashes and by its name as well as by its colour. Times are UTC, as in the tables.
 */

import { areaY, barX, dot, lineY, plot, pointerX, rectY, ruleX, ruleY, stackY, text, tip } from './vendor/plot.js';

const LIGHT = {
  ink: '#1b1f20',
  muted: '#596264',
  line: '#dfe3e1',
  surface: '#ffffff',
  danger: '#a3261c',
  series: ['#0f6b5c', '#b4652a', '#4a5fa8', '#8a3f77', '#6d7a16', '#3d7f99', '#7a5a3a', '#6b6f76'],
};
const DARK = {
  ink: '#e6e9e8',
  muted: '#a2abac',
  line: '#2f3538',
  surface: '#1b1e20',
  danger: '#ff9d90',
  series: ['#7fd6c4', '#f0b07f', '#a7b6ef', '#e0a3d0', '#cdd67f', '#8fcbe3', '#d5b48f', '#b3b8be'],
};
const DASHES = [null, '6 3', '2 3', '9 3 2 3', '1 4', '12 4', '4 4', '8 2 1 2'];
const TEXTURES = [
  '',
  '<path d="M-1 7 7 -1M-1 1 1 -1M5 7 7 5"/>',
  '<circle cx="3" cy="3" r="1.1"/>',
  '<path d="M0 3H6"/>',
  '<path d="M3 0V6"/>',
  '<path d="M-1 -1 7 7M5 -1 7 1M-1 5 1 7"/>',
  '<path d="M0 3H6M3 0V6"/>',
  '<path d="M0 1.5H3M3 4.5H6"/>',
];
const SVG = 'http://www.w3.org/2000/svg';
/** How a decision over a rollout is drawn; in the order in which words are wanted where there is no room for all. */
const MARKS = new Map([
  ['rolled_back', { symbol: 'times', bad: true }],
  ['done', { symbol: 'star' }],
  ['paused', { symbol: 'square', hollow: true }],
  ['held', { symbol: 'square' }],
  ['started', { symbol: 'circle' }],
  ['promoted', { symbol: 'triangle' }],
  ['resumed', { symbol: 'diamond', hollow: true }],
  ['went_on', { symbol: 'diamond' }],
]);

const darkness = matchMedia('(prefers-color-scheme: dark)');

export const isDark = () => darkness.matches;
export const onTheme = (listener) => {
  darkness.addEventListener('change', listener);
  return () => darkness.removeEventListener('change', listener);
};
const theme = () => (isDark() ? DARK : LIGHT);
export const colour = (index) => theme().series[index % theme().series.length];
export const danger = () => theme().danger;
export const dash = (index) => DASHES[index % DASHES.length];
const fillOf = (index) => (index % TEXTURES.length ? `url(#texture-${index % TEXTURES.length})` : colour(index));

/** An SVG <defs> with the textures of all series, and one for what failed. */
function textures() {
  const defs = document.createElementNS(SVG, 'defs');
  const add = (id, ground, drawn, stroke) => {
    const pattern = document.createElementNS(SVG, 'pattern');
    const shape = { id, width: 6, height: 6, patternUnits: 'userSpaceOnUse' };
    for (const [name, value] of Object.entries(shape)) pattern.setAttribute(name, value);
    // Constants of this file: nothing that came over the network.
    pattern.innerHTML =
      `<rect width="6" height="6" fill="${ground}"/>` +
      `<g fill="none" stroke="${stroke}" stroke-opacity="0.75" stroke-width="1.2">${drawn}</g>`;
    defs.append(pattern);
  };
  TEXTURES.forEach((drawn, index) => add(`texture-${index}`, colour(index), drawn, theme().surface));
  add('texture-failed', theme().danger, '<path d="M0 0 6 6M6 0 0 6"/>', theme().surface);
  return defs;
}

/** How Plot's dot draws a decision. */
function markStyle(decision) {
  const { symbol, hollow, bad } = MARKS.get(decision);
  const stroke = bad ? theme().danger : theme().ink;
  return { symbol, r: 4.5, stroke, strokeWidth: bad ? 2.5 : 1.5, fill: hollow ? theme().surface : stroke };
}

/** Whether a decision has a mark; the others are but notes of the machine. */
export const hasMark = (decision) => MARKS.has(decision);

/** A small picture of how a series is drawn, for a legend; of `kind` mark, of a decision. */
export function swatch(index, kind) {
  if (kind === 'mark') {
    const mark = dot([0], { frameAnchor: 'middle', ...markStyle(index) });
    const drawn = plot({ className: 'plot', width: 14, height: 14, margin: 0, axis: null, marks: [mark] });
    // It would be read as text where it stands in a sentence.
    drawn.querySelector('style').remove();
    return drawn;
  }
  const svg = document.createElementNS(SVG, 'svg');
  const shape = kind === 'line' ? { width: 22, height: 10 } : { width: 12, height: 12 };
  for (const [name, value] of Object.entries({ ...shape, 'aria-hidden': 'true' })) svg.setAttribute(name, value);
  const drawn = document.createElementNS(SVG, kind === 'line' ? 'path' : 'rect');
  const how =
    kind === 'line'
      ? { d: 'M0 5H22', stroke: colour(index), 'stroke-width': 2.2, 'stroke-dasharray': dash(index) ?? '' }
      : { width: 12, height: 12, rx: 2.5, fill: kind === 'failed' ? 'url(#texture-failed)' : fillOf(index) };
  for (const [name, value] of Object.entries(how)) drawn.setAttribute(name, value);
  if (kind !== 'line') svg.append(textures());
  svg.append(drawn);
  return svg;
}

const ofStep = (body) => ({ from: new Date(body.from), to: new Date(body.to), stepMs: body.step_s * 1000 });

function frame(body, width, more) {
  const { ink, line } = theme();
  const { from, to } = ofStep(body);
  return {
    className: 'plot',
    width,
    height: 230,
    marginLeft: 52,
    marginRight: 12,
    marginTop: 14,
    marginBottom: 26,
    style: { color: ink, background: 'transparent', fontSize: '11px' },
    x: { type: 'utc', domain: [from, to], label: null, tickSize: 0, ticks: Math.max(3, Math.floor(width / 110)), tickFormat: momentText(to - from) },
    ...more,
    y: { label: null, grid: true, tickSize: 0, ticks: 4, zero: true, nice: true, ...more.y },
    marks: [ruleY([0], { stroke: line, strokeWidth: 1 }), ...more.marks],
  };
}

/** Name what was drawn, for those who do not see it, and make it whole by itself. */
function finished(svg, label) {
  for (const inner of svg.querySelectorAll('[aria-label]')) inner.removeAttribute('aria-label');
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', label);
  svg.setAttribute('font-family', 'system-ui, sans-serif');
  svg.prepend(textures());
  return svg;
}

/**
 * Bars over time, stacked by provider; with `failed`, its part of each bar is marked as well.
 * @param {{value: string, failed?: string, order: string[], format: (n: number) => string, label: string}} options
 */
export function stack(body, width, { value, failed, order, format, label }) {
  const { stepMs } = ofStep(body);
  const rows = [];
  for (const row of body.rows) {
    const at = new Date(row.at);
    const bad = failed ? row[failed] : 0;
    const span = { at, until: new Date(at.getTime() + stepMs), provider: row.provider };
    rows.push({ ...span, amount: row[value] - bad, failed: false });
    if (bad) rows.push({ ...span, amount: bad, failed: true });
  }
  const place = (row) => (row.failed ? order.length : order.indexOf(row.provider));
  const stacked = stackY({
    x1: 'at',
    x2: 'until',
    y: 'amount',
    z: (row) => `${row.provider} ${row.failed}`,
    fill: (row) => (row.failed ? 'url(#texture-failed)' : fillOf(place(row))),
    order: place,
    insetLeft: 0.5,
    insetRight: 0.5,
  });
  const sums = new Map();
  for (const row of rows) {
    const sum = sums.get(+row.at) ?? { at: new Date(+row.at + stepMs / 2), total: 0, lines: [] };
    sum.total += row.amount;
    if (row.amount) sum.lines.push(`${row.provider}${row.failed ? ' failed' : ''}: ${format(row.amount)}`);
    sums.set(+row.at, sum);
  }
  const told = [...sums.values()];
  const say = (sum) => [timeText(new Date(+sum.at - stepMs / 2)), ...sum.lines].join('\n');
  return finished(
    plot(
      frame(body, width, {
        y: { tickFormat: format },
        color: { type: 'identity' },
        marks: [
          rectY(rows, stacked),
          tip(told, pointerX({ x: 'at', y: 'total', title: say, ...tipStyle() })),
        ],
      }),
    ),
    label,
  );
}

/**
 * Lines over time, broken where nothing was measured.
 * @param {{series: [string, string][], format: (n: number) => string, label: string}} options series: column and name
 */
export function lines(body, width, { series, format, label }) {
  const { stepMs } = ofStep(body);
  const rows = body.rows.map((row) => ({ ...row, at: new Date(+new Date(row.at) + stepMs / 2) }));
  const known = new Map(rows.map((row) => [+row.at, row]));
  const first = +new Date(body.from) + stepMs / 2;
  const all = [];
  for (let at = first; at < +new Date(body.to); at += stepMs) all.push(known.get(at) ?? { at: new Date(at) });
  const last = rows.at(-1);
  const alone = (column) =>
    all.filter((row, i) => row[column] != null && all[i - 1]?.[column] == null && all[i + 1]?.[column] == null);
  const marks = series.flatMap(([column], index) => [
    lineY(all, {
      x: 'at',
      y: column,
      stroke: colour(index),
      strokeWidth: index === 0 ? 2.25 : 1.75,
      strokeDasharray: dash(index),
      curve: 'monotone-x',
    }),
    dot(alone(column), { x: 'at', y: column, fill: colour(index), r: 2.5 }),
  ]);
  const [low, high] = [series[0][0], series.at(-1)[0]];
  const say = (row) =>
    [timeText(new Date(+row.at - stepMs / 2)), ...series.map(([column, name]) => `${name}: ${format(row[column])}`)].join('\n');
  return finished(
    plot(
      frame(body, width, {
        marginRight: 34,
        y: { tickFormat: format },
        marks: [
          areaY(all, { x: 'at', y1: low, y2: high, fill: colour(0), fillOpacity: 0.08, curve: 'monotone-x' }),
          ...marks,
          ...series.map(([column, name], index) =>
            text(last ? [last] : [], {
              x: 'at', y: column, text: () => name, dx: 7, textAnchor: 'start', fill: colour(index), fontWeight: 600,
            }),
          ),
          ruleX(rows, pointerX({ x: 'at', stroke: theme().muted, strokeOpacity: 0.5 })),
          tip(rows, pointerX({ x: 'at', y: high, title: say, ...tipStyle() })),
        ],
      }),
    ),
    label,
  );
}

/**
 * The share of users over time, as steps, and what was decided when, by a shape and, where there is room, by a word.
 * @param {{points: {at: Date, percent: number}[], marks: {at: Date, percent: number, decision: string, word: string,
 *   title: string}[], stages: number[], format: (percent: number) => string, label: string}} options percent: 0 to 100
 */
export function steps(body, width, { points, marks, stages, format, label }) {
  const { ink, surface } = theme();
  const { from, to } = ofStep(body);
  const options = frame(body, width, {
    marginTop: 20,
    // The first stages are the smallest, and the ones that one looks at.
    y: { type: 'sqrt', domain: [0, 100], nice: false, ticks: [0, ...stages], tickFormat: format },
    marks: [],
  });
  const { marginLeft, marginRight, marginTop, marginBottom, height } = options;
  const x = (at) => marginLeft + ((at - from) / (to - from)) * (width - marginLeft - marginRight);
  const y = (percent) => height - marginBottom - Math.sqrt(percent / 100) * (height - marginTop - marginBottom);
  const steps = { x: 'at', curve: 'step-after' };
  options.marks.push(
    areaY(points, { ...steps, y: 'percent', fill: colour(0), fillOpacity: 0.1 }),
    lineY(points, { ...steps, y: 'percent', stroke: colour(0), strokeWidth: 2.25 }),
    ...marks.map((mark) => dot([mark], { x: 'at', y: 'percent', ...markStyle(mark.decision) })),
    ...withRoom(marks, x, y, width).map(({ mark, dx, dy, textAnchor }) =>
      text([mark], { x: 'at', y: 'percent', text: 'word', textAnchor, dx, dy, fill: ink, stroke: surface, strokeWidth: 3 }),
    ),
    tip(marks, pointerX({ x: 'at', y: 'percent', title: 'title', ...tipStyle() })),
  );
  return finished(plot(options), label);
}

/** Where a word may stand by its mark. */
const PLACES = {
  left: { dx: -7, dy: -9, textAnchor: 'end' },
  right: { dx: 7, dy: -9, textAnchor: 'start' },
  above: { dx: 0, dy: -15, textAnchor: 'middle' },
};
const MARK = 6;
const LINE = 12;

/** The marks that have room for their words, and where: on no other word and no mark; the weightier come first. */
function withRoom(marks, x, y, width) {
  const order = [...MARKS.keys()];
  const weight = (mark) => order.indexOf(mark.decision);
  const taken = marks.map((mark) => ({ left: x(mark.at) - MARK, right: x(mark.at) + MARK, middle: y(mark.percent) }));
  const boxOf = (mark, { dx, dy, textAnchor }) => {
    const long = 6 * mark.word.length;
    const left = x(mark.at) + dx - { start: 0, middle: long / 2, end: long }[textAnchor];
    return { left, right: left + long, middle: y(mark.percent) + dy };
  };
  const isFree = (box) =>
    box.left >= 0 && box.right <= width &&
    !taken.some((one) => box.left < one.right && one.left < box.right && Math.abs(box.middle - one.middle) < LINE);
  const chosen = [];
  for (const mark of [...marks].sort((one, other) => weight(one) - weight(other) || other.at - one.at)) {
    // What rises to a mark comes from below on its left.
    const rises = mark.decision === 'promoted' || mark.decision === 'done';
    const names = rises ? ['left', 'right', 'above'] : ['right', 'left', 'above'];
    const place = names.map((name) => PLACES[name]).find((each) => isFree(boxOf(mark, each)));
    if (!place) continue;
    taken.push(boxOf(mark, place));
    chosen.push({ mark, ...place });
  }
  return chosen;
}

const DECADES = { low: -4, high: 4 };

/**
 * E-values over time as parts of the thresholds they are held against, by powers of ten: all have one line to cross.
 * @param {{series: [string, string, number][], format: (logE: number) => string, label: string}} options series: test,
 *   name, threshold; `readings`: {at: Date, log_e: by test}, oldest first; thresholds and e-values as natural logarithms
 */
export function evidence(body, readings, width, { series, format, label }) {
  const { danger: wrong, surface, muted } = theme();
  const height = (row, test, threshold) => (row.log_e?.[test] == null ? NaN : (row.log_e[test] - threshold) / Math.LN10);
  const heightsOf = (row) => series.map(([test, , threshold]) => height(row, test, threshold)).filter(Number.isFinite);
  const known = readings.flatMap(heightsOf);
  const low = Math.max(DECADES.low, Math.floor(known.reduce((one, other) => Math.min(one, other), -3)));
  const high = Math.min(DECADES.high, Math.ceil(known.reduce((one, other) => Math.max(one, other), 0.5)));
  const inside = (value) => Math.min(high, Math.max(low, value));
  const ticks = Array.from({ length: high - low + 1 }, (_, index) => low + index);
  const say = (row) =>
    [timeText(row.at), ...series.map(([test, name, threshold]) => `${name}: ${format(row.log_e?.[test])} of ${format(threshold)}`)].join('\n');
  return finished(
    plot(
      frame(body, width, {
        marginTop: 20,
        marginLeft: 60,
        y: { domain: [low, high], nice: false, zero: false, ticks, tickFormat: partText },
        marks: [
          ruleY([0], { stroke: wrong, strokeWidth: 1.5, strokeDasharray: '4 3' }),
          ...series.map(([test, , threshold], index) =>
            lineY(readings, {
              x: 'at',
              y: (row) => inside(height(row, test, threshold)),
              stroke: colour(index),
              strokeWidth: 1.9,
              strokeDasharray: dash(index),
              marker: readings.length < 3 ? 'dot' : null,
            }),
          ),
          text([0], {
            x: () => ofStep(body).from, y: 0, text: () => 'above: proven worse', textAnchor: 'start', dx: 4, dy: -8,
            fill: wrong, stroke: surface, strokeWidth: 3,
          }),
          ruleX(readings, pointerX({ x: 'at', stroke: muted, strokeOpacity: 0.5 })),
          tip(readings, pointerX({ x: 'at', y: (row) => inside(Math.max(...heightsOf(row))), title: say, ...tipStyle() })),
        ],
      }),
    ),
    label,
  );
}

/** A power of ten of the threshold: 1/100, threshold, ×10. */
function partText(power) {
  if (power === 0) return 'threshold';
  const times = (10 ** Math.abs(power)).toLocaleString('en-US');
  return power < 0 ? `1/${times}` : `×${times}`;
}

/** From the lower to the upper quartile of each model, the median as a dot. */
export function quartiles(rows, width, { order, format, label }) {
  const { muted, ink } = theme();
  const names = rows.map((row) => `${row.provider} · ${row.model}`);
  const named = rows.map((row, index) => ({ ...row, name: names[index] }));
  const room = Math.min(200, Math.max(90, width * 0.38));
  return finished(
    plot({
      className: 'plot',
      width,
      height: 40 + 30 * rows.length,
      marginLeft: room,
      marginRight: 44,
      marginTop: 8,
      style: { color: ink, background: 'transparent', fontSize: '11px' },
      x: { label: null, zero: true, nice: true, grid: true, tickSize: 0, tickFormat: format, ticks: 5 },
      y: {
        label: null,
        domain: names,
        tickSize: 0,
        tickFormat: (name) => shortened(name, Math.floor(room / 6.3)),
      },
      color: { type: 'identity' },
      marks: [
        barX(named, {
          x1: 'speed_p25', x2: 'speed_p75', y: 'name', fill: (row) => fillOf(order.indexOf(row.provider)), insetTop: 7,
          insetBottom: 7, rx: 2, fillOpacity: 0.75,
        }),
        dot(named, { x: 'speed_p50', y: 'name', r: 4.5, fill: ink, stroke: theme().surface, strokeWidth: 1.5 }),
        text(named, {
          x: 'speed_p75', y: 'name', text: (row) => format(row.speed_p50), dx: 6, textAnchor: 'start', fill: muted,
        }),
      ],
    }),
    label,
  );
}

/**
 * A value of each arm with its interval; `rows`: {arm, value, low, high}, low and high null where none is known yet.
 */
export function intervals(rows, width, { format, label }) {
  const { ink, muted } = theme();
  return finished(
    plot({
      className: 'plot',
      width,
      height: 34 + 26 * rows.length,
      marginLeft: 84,
      marginRight: 16,
      marginTop: 6,
      style: { color: ink, background: 'transparent', fontSize: '11px' },
      x: { label: null, nice: true, grid: true, tickSize: 0, tickFormat: format, ticks: Math.max(2, Math.floor(width / 90)) },
      y: { label: null, domain: rows.map((row) => row.arm), tickSize: 0, tickFormat: (name) => shortened(name, 13) },
      marks: [
        ...(rows.some((row) => row.zero) ? [ruleX([0], { stroke: muted })] : []),
        ruleY(rows.filter((row) => row.low != null), { x1: 'low', x2: 'high', y: 'arm', stroke: ink, strokeWidth: 2 }),
        dot(rows.filter((row) => row.value != null), { x: 'value', y: 'arm', r: 4.5, fill: colour(0), stroke: theme().surface }),
      ],
    }),
    label,
  );
}

const tipStyle = () => ({ fill: theme().surface, stroke: theme().line, fontSize: 12, lineHeight: 1.35 });
const shortened = (name, room) => (name.length > room ? `${name.slice(0, Math.max(1, room - 1))}…` : name);

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const DAY_MS = 86_400_000;

/** How an axis of so many milliseconds writes a moment: 14:05 or Nov 22, as the tables do in UTC. */
const momentText = (span) => (at) =>
  span > DAY_MS || at % DAY_MS === 0
    ? `${MONTHS[at.getUTCMonth()]} ${at.getUTCDate()}`
    : at.toISOString().slice(11, at.getUTCSeconds() ? 19 : 16);

/** 2026-11-22 14:05, or with seconds where there are any. */
export function timeText(at) {
  const iso = at.toISOString();
  return `${iso.slice(0, 10)} ${iso.slice(11, at.getUTCSeconds() ? 19 : 16)} UTC`;
}

/** The SVG as a file that is whole without this page. */
export function svgFile(svg) {
  const copy = svg.cloneNode(true);
  copy.setAttribute('xmlns', SVG);
  copy.setAttribute('style', `color: ${theme().ink}; background: ${theme().surface}`);
  return new Blob([new XMLSerializer().serializeToString(copy)], { type: 'image/svg+xml' });
}
