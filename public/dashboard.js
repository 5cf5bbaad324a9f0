/**
 * The dashboard: the panels of GET /api/dashboard/{panel} for a range and filters that stand in the page's address.
 *
 * Whatever came over the network enters the page as text nodes, never as HTML. While the page is seen it is renewed; an
 * answer that has not changed costs a 304.
 */

import { html, render, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from './vendor/preact.js';
import { colour, danger, intervals, isDark, lines, onTheme, quartiles, stack, svgFile, swatch, timeText } from './charts.js';
import { Rollouts, hasRollouts } from './rollout.js';

const RANGES = { '5m': '5 min', '1h': '1 h', '24h': '24 h', '7d': '7 d', '30d': '30 d' };
const SPOKEN = { '5m': '5 minutes', '1h': 'hour', '24h': '24 hours', '7d': '7 days', '30d': '30 days' };
const FILTERS = { provider: 'Provider', model: 'Model', route: 'Route', arm: 'Arm' };
const DEFAULT_RANGE = '24h';
const RENEW_MS = { '5m': 5_000, '1h': 15_000 };
const RENEW_SLOWLY_MS = 30_000;
const NOTHING = '–';

/* What is asked for stands in the address. */

function fromAddress() {
  const query = new URLSearchParams(location.search);
  const asked = { range: query.get('range') in RANGES ? query.get('range') : DEFAULT_RANGE, request: query.get('request') };
  for (const name of Object.keys(FILTERS)) asked[name] = query.get(name) ?? '';
  return asked;
}

function toAddress(asked) {
  const query = new URLSearchParams();
  if (asked.range !== DEFAULT_RANGE) query.set('range', asked.range);
  for (const name of [...Object.keys(FILTERS), 'request']) if (asked[name]) query.set(name, asked[name]);
  return `${location.pathname}${query.size ? '?' : ''}${query}`;
}

function queryOf(asked) {
  const query = new URLSearchParams({ range: asked.range });
  for (const name of Object.keys(FILTERS)) if (asked[name]) query.set(name, asked[name]);
  return query;
}

/* Fetching */

class Problem extends Error {}

async function fetched(path, accept = 'application/json') {
  let response;
  try {
    response = await fetch(path, { headers: { accept } });
  } catch {
    throw new Problem('The server could not be reached.');
  }
  if (response.ok) return response;
  const told = (await response.json().catch(() => null)) ?? {};
  if (response.status === 401) throw new Problem('Sign in on the playground, or let guests in, to see your numbers.');
  throw new Problem(told.detail ?? `The server answered ${response.status}.`);
}

/** A panel's body, its problem, and whether it is being asked for. What is there stays until there is something new. */
function usePanel(name, asked, beat) {
  const [state, setState] = useState({ body: null, problem: null, busy: true, key: '' });
  const query = queryOf(asked).toString();
  const [again, setAgain] = useState(0);
  useEffect(() => {
    let gone = false;
    setState((old) => ({ ...old, busy: old.key !== query || old.body === null }));
    fetched(`/api/dashboard/${name}?${query}`)
      .then((response) => response.json())
      .then((body) => ({ body, problem: null }))
      .catch((error) => ({ problem: error instanceof Problem ? error.message : 'The answer could not be read.' }))
      .then((news) => {
        if (gone) return;
        // After a failure the numbers that stand there would be taken for those of now.
        setState((old) => ({ body: news.problem && old.key !== query ? null : old.body, ...news, busy: false, key: query }));
      });
    return () => {
      gone = true;
    };
  }, [name, query, beat, again]);
  return [state, useCallback(() => setAgain((count) => count + 1), [])];
}

function save(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/* Numbers as people read them */

const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);
const count = (value) => (isNumber(value) ? value.toLocaleString('en-US') : NOTHING);
const short = (value) =>
  isNumber(value) ? value.toLocaleString('en-US', { notation: 'compact', maximumFractionDigits: 1 }) : NOTHING;
const percent = (value) =>
  isNumber(value) ? value.toLocaleString('en-US', { style: 'percent', maximumFractionDigits: value < 0.1 ? 2 : 1 }) : NOTHING;

function duration(ms) {
  if (!isNumber(ms)) return NOTHING;
  if (ms > 0 && ms < 1) return `${ms.toPrecision(2)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s` : `${(ms / 60_000).toFixed(1)} min`;
}

function axisDuration(ms) {
  if (!isNumber(ms)) return NOTHING;
  return ms < 1000 ? `${+ms.toPrecision(3)} ms` : `${+(ms / 1000).toPrecision(3)} s`;
}

function dollars(usd) {
  if (!isNumber(usd)) return NOTHING;
  if (usd === 0) return '$0';
  const digits = Math.max(2, Math.min(8, 2 - Math.floor(Math.log10(Math.abs(usd)))));
  return usd.toLocaleString('en-US', { style: 'currency', currency: 'USD', maximumFractionDigits: usd >= 100 ? 0 : digits });
}

function speed(value) {
  return isNumber(value) ? `${value < 10 ? +value.toFixed(1) : Math.round(value)}/s` : NOTHING;
}

/** How a column is written in a table, by its name. */
function written(column, value) {
  if (value === null || value === undefined || value === '') return NOTHING;
  if (column === 'at') return timeText(new Date(value)).replace(' UTC', '');
  if (column === 'served') return Object.entries(value).map(([name, n]) => `${name} ${count(n)}`).join(', ');
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (!isNumber(value)) return String(value);
  if (column.endsWith('_ms')) return duration(value);
  if (column.endsWith('_usd')) return dollars(value);
  if (column.endsWith('_rate') || column.endsWith('_share')) return percent(value);
  if (column.startsWith('speed_') || column === 'tokens_per_second') return speed(value);
  return count(value);
}

const HEADINGS = {
  at: 'Time (UTC)',
  p50_ms: 'p50',
  p95_ms: 'p95',
  p99_ms: 'p99',
  error_rate: 'Failed',
  ttft_ms: 'First token',
  latency_ms: 'Took',
  latency_p50_ms: 'p50',
  latency_p95_ms: 'p95',
  ttft_p50_ms: 'First token p50',
  speed_p25: 'Tokens/s p25',
  speed_p50: 'p50',
  speed_p75: 'p75',
  cost_usd: 'Cost',
  cost_per_1k_requests_usd: 'per 1k requests',
  cost_per_1k_output_tokens_usd: 'per 1k output tokens',
  saving_usd: 'Saved',
  cached_share: 'From cache',
  duration_ms: 'Took',
  request_id: 'Request',
  job_id: 'Job',
  error_code: 'Error',
  caller_kind: 'Caller',
  failed_calls: 'Failed calls',
  unpriced: 'Cost unknown',
};
const heading = (column) => HEADINGS[column] ?? column[0].toUpperCase() + column.slice(1).replaceAll('_', ' ');

/** Only what is long may break, or columns would be as narrow as a letter. */
const classOf = (value) => (isNumber(value) ? 'number' : String(value ?? '').length > 40 ? 'text' : '');

const hasRows = (body) => body.rows.length > 0;

/* Parts of the page */

function Table({ columns, rows, cell = null, tall = false, label }) {
  const numeric = (column) => rows.some((row) => isNumber(row[column]));
  const shown = columns.filter((column) => rows.some((row) => row[column] !== null && row[column] !== undefined));
  return html`<div class=${`scroll ${tall ? 'tall' : ''}`} tabindex="0" role="region" aria-label=${label}>
    <table>
      <thead><tr>${shown.map((column) => html`<th scope="col" class=${numeric(column) ? 'number' : ''}>${heading(column)}</th>`)}</tr></thead>
      <tbody>${rows.map((row) => html`<tr>${shown.map((column) => {
        const made = cell?.(column, row);
        return html`<td class=${classOf(row[column])}>${made ?? written(column, row[column])}</td>`;
      })}</tr>`)}</tbody>
    </table>
  </div>`;
}

/** Draws by `draw(width)` into a box, anew when its width, the theme or what is drawn changes. */
function Chart({ draw, on }) {
  const box = useRef(null);
  const [width, setWidth] = useState(0);
  const [dark, setDark] = useState(isDark());
  useEffect(() => onTheme(() => setDark(isDark())), []);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => {
    if (width > 120) box.current.replaceChildren(draw(width));
  }, [width, dark, on]);
  return html`<div class="chart" ref=${box}></div>`;
}

function Swatch({ index, kind }) {
  const place = useRef(null);
  const [dark, setDark] = useState(isDark());
  useEffect(() => onTheme(() => setDark(isDark())), []);
  useLayoutEffect(() => place.current.replaceChildren(swatch(index, kind)), [index, kind, dark]);
  return html`<span ref=${place} aria-hidden="true"></span>`;
}

function Legend({ names, kind, failed = false }) {
  return html`<ul class="legend" role="list">
    ${names.map(([name, index]) => html`<li key=${name}><${Swatch} index=${index} kind=${kind} />${name}</li>`)}
    ${failed && html`<li><${Swatch} index=${0} kind="failed" />failed</li>`}
  </ul>`;
}

/**
 * A panel on a card: title, exports, what it shows or why it shows nothing, and its rows as a table.
 * @param {{name: string, title: string, note: string, asked: object, beat: number, size?: string, table?: boolean,
 *   filled?: (body: object) => boolean, lasting?: boolean, empty: string,
 *   children: (body: object, renew: () => void) => unknown}} props lasting: what is there stays, below its problem
 */
function Card({ name, title, note, asked, beat, size = '', table = true, filled = hasRows, lasting = false, empty, children }) {
  const [{ body, problem, busy }, retry] = usePanel(name, asked, beat);
  const card = useRef(null);
  const [said, setSaid] = useState('');
  const rows = body?.rows ?? [];
  const csv = async () => {
    try {
      const response = await fetched(`/api/dashboard/${name}?${queryOf(asked)}`, 'text/csv');
      save(await response.blob(), `${name}-${asked.range}.csv`);
    } catch (error) {
      setSaid(error.message);
    }
  };
  const drawn = () => card.current.querySelector('.chart svg');
  const [hasChart, setHasChart] = useState(false);
  useEffect(() => setHasChart(drawn() !== null));
  const wrong = problem && html`<div class="said wrong" role="alert"><span>${problem}</span><button type="button" onClick=${retry}>Try again</button></div>`;
  let shown;
  if (problem && !(lasting && body)) {
    shown = wrong;
  } else if (body === null) {
    shown = html`<div class="waiting" role="status"><span class="visually-hidden">Loading ${title}</span></div>`;
  } else if (!filled(body)) {
    shown = html`<div class="said">${empty}</div>`;
  } else {
    shown = [wrong, children(body, retry)];
  }
  return html`<section class=${`card ${size}`} ref=${card} aria-labelledby=${`title-${name}`}>
    <div class="card-head">
      <div><h2 id=${`title-${name}`}>${title}</h2><p>${note}</p></div>
      ${body && filled(body) && !problem && html`<div class="exports">
        <button type="button" onClick=${csv} aria-label=${`${title} as CSV`}>CSV</button>
        ${hasChart && html`<button type="button" aria-label=${`${title} as SVG`}
          onClick=${() => save(svgFile(drawn()), `${name}-${asked.range}.svg`)}>SVG</button>`}
      </div>`}
    </div>
    ${said && html`<p class="warning" role="alert">${said}</p>`}
    <div class="body" aria-busy=${busy ? 'true' : 'false'}>${shown}</div>
    ${table && rows.length > 0 && !problem && html`<details><summary>Table</summary>
      <${Table} columns=${body.columns} rows=${rows} label=${`${title}, table`} /></details>`}
  </section>`;
}

const TILES = [
  ['requests', 'Requests', count, 0],
  ['error_rate', 'Failed', percent, -1],
  ['rescued_rate', 'Saved by fallback', percent, 0],
  ['ttft_p50_ms', 'First token, p50', duration, -1],
  ['latency_p95_ms', 'Latency, p95', duration, -1],
  ['tokens_per_second', 'Tokens per second', speed, 1],
  ['cost_usd', 'Cost', dollars, -1],
  ['cost_per_1k_requests_usd', 'Per 1k requests', dollars, -1],
];

function Delta({ value, previous, better, range }) {
  if (value === previous && isNumber(value)) return html`<span class="delta">as the ${SPOKEN[range]} before</span>`;
  if (!isNumber(value) || !isNumber(previous) || previous === 0) {
    return html`<span class="delta">none in the ${SPOKEN[range]} before</span>`;
  }
  const change = value / previous - 1;
  if (Math.abs(change) < 0.005) return html`<span class="delta">as the ${SPOKEN[range]} before</span>`;
  const trend = better === 0 ? '' : Math.sign(change) === better ? 'good' : 'bad';
  const arrow = change > 0 ? '▲' : '▼';
  const size = Math.abs(change) >= 10 ? `×${short(value / previous)}` : percent(Math.abs(change));
  return html`<span class="delta" data-trend=${trend}><b>${arrow} ${size}</b> ${
    trend && html`<span class="visually-hidden">${trend === 'good' ? 'better' : 'worse'}</span>`
  } to the ${SPOKEN[range]} before</span>`;
}

function Tiles({ asked, beat }) {
  const [{ body, problem, busy }, retry] = usePanel('tiles', asked, beat);
  const values = useMemo(() => new Map((body?.rows ?? []).map((row) => [row.metric, row])), [body]);
  if (problem) {
    return html`<div class="card said wrong" role="alert"><span>${problem}</span><button type="button" onClick=${retry}>Try again</button></div>`;
  }
  const unpriced = values.get('unpriced')?.value;
  return html`<dl class="tiles" aria-busy=${busy ? 'true' : 'false'}>${TILES.map(([name, title, format, better]) => {
    const told = values.get(name);
    return html`<div class="tile" key=${name}><dt>${title}</dt>
      <dd>${told ? format(told.value) : NOTHING}${name === 'cost_usd' && unpriced > 0 && html`<small title="Calls whose price nobody knows">+ ${count(unpriced)} unknown</small>`}</dd>
      <dd class="delta">${told ? html`<${Delta} value=${told.value} previous=${told.previous} better=${better} range=${asked.range} />` : ''}</dd>
    </div>`;
  })}</dl>`;
}

function Outcome({ outcome }) {
  return html`<span class="outcome" data-outcome=${outcome}>${outcome}</span>`;
}

function Fallbacks({ rows }) {
  const most = Math.max(...rows.map((row) => row.calls));
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Fallbacks"><table>
    <thead><tr><th scope="col">From</th><th scope="col">To</th><th scope="col">Because of</th><th scope="col">As</th>
      <th scope="col" class="number">Calls</th><th scope="col" class="number">Answered</th></tr></thead>
    <tbody>${rows.map((row) => html`<tr>
      <th scope="row">${row.from}</th><td>${row.to}</td><td class="text">${row.cause || 'silence'}</td><td>${row.kind}</td>
      <td class="number heat"><i style=${{ width: `${(100 * row.calls) / most}%` }}></i><span>${count(row.calls)}</span></td>
      <td class="number">${count(row.rescued)}</td></tr>`)}</tbody>
  </table></div>`;
}

function Errors({ rows }) {
  const most = Math.max(...rows.map((row) => row.calls));
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Errors"><table>
    <thead><tr><th scope="col">Provider</th><th scope="col">Error</th><th scope="col" class="number">Calls</th>
      <th scope="col" class="number">Saved</th></tr></thead>
    <tbody>${rows.map((row) => html`<tr><th scope="row">${row.provider}</th>
      <td class="text"><${Outcome} outcome=${row.outcome} /> ${row.code && row.code !== row.outcome ? row.code : ''}</td>
      <td class="number heat"><i style=${{ width: `${(100 * row.calls) / most}%` }}></i><span>${count(row.calls)}</span></td>
      <td class="number">${percent(row.saved / row.calls)}</td></tr>`)}</tbody>
  </table></div>`;
}

function Served({ served, order }) {
  const total = Object.values(served).reduce((sum, n) => sum + n, 0);
  return html`<span>${written('served', served)}</span><div class="bars" aria-hidden="true">${Object.entries(served).map(
    ([name, n]) => html`<i style=${{ width: `${(100 * n) / total}%`, background: colour(order.indexOf(name)) }}></i>`,
  )}</div>`;
}

const ARM_COLUMNS = [
  'arm', 'requests', 'error_rate', 'failed_calls', 'served', 'latency_p50_ms', 'latency_p95_ms', 'ttft_p50_ms',
  'cost_per_1k_requests_usd', 'cost_per_1k_output_tokens_usd', 'thumbs',
];

const MEASURES = {
  error_rate: ['Failed', percent], approval: ['Thumbs up', percent], failed_calls_per_request: ['Failed calls per request', plain],
  latency_mean_ms: ['Latency, mean', duration], latency_p50_ms: ['Latency, p50', duration], latency_p95_ms: ['Latency, p95', duration],
  ttft_p50_ms: ['First token, p50', duration], ttft_p95_ms: ['First token, p95', duration],
  cost_per_1k_requests_usd: ['Cost per 1k requests', dollars], cost_per_1k_output_tokens_usd: ['Cost per 1k output tokens', dollars],
};

function plain(value) {
  return Number(value.toPrecision(3)).toLocaleString('en');
}

/** Both bounds of an interval; one that is missing has no end. */
function between({ low, high }, format) {
  return `${low == null ? 'no bound' : format(low)} to ${high == null ? 'no bound' : format(high)}`;
}

/** What the analysis of an experiment says: `result` is lib/experiments.py's. */
function Analysis({ analysis }) {
  const { result, computed_at: at, period } = analysis;
  const ratio = result.sample_ratio;
  const differences = (result.differences ?? []).filter(({ measure }) => measure in MEASURES).map((each) => {
    const [name, format] = MEASURES[each.measure];
    return {
      arm: each.arm, measure: name, difference: `${each.value > 0 ? '+' : each.value < 0 ? '−' : ''}${format(Math.abs(each.value))}`,
      interval: between(each, (value) => (value < 0 ? `−${format(-value)}` : format(value))), clear: each.clear ?? 'open',
    };
  });
  return html`<div>
    ${(result.warnings ?? []).map((warning) => html`<p class="warning">${warning}</p>`)}
    ${(result.verdicts ?? []).map(({ arm, words }) => html`<p class="verdict" key=${arm}><strong>${words}</strong></p>`)}
    ${ratio && html`<p class=${ratio.ok ? 'freshness' : 'warning'}>${ratio.ok
      ? `Users are spread over the arms as they should be (p ${plain(ratio.p_value)}).`
      : `Users are not spread over the arms as they should be (p ${plain(ratio.p_value)}).`}</p>`}
    ${differences.length > 0 && html`<${Table} columns=${['arm', 'measure', 'difference', 'interval', 'clear']} rows=${differences}
      label=${`Differences to ${result.control}, with 95 % intervals`} />`}
    <p class="freshness">Analysed ${timeText(new Date(at))}, over ${SPOKEN[period]}; verdicts are of all users since it began
      and hold however often one looks, intervals for who looks once.</p>
  </div>`;
}

function Arms({ body, order }) {
  const experiments = [...new Set(body.rows.map((row) => row.experiment))];
  const cell = (column, row) => {
    if (column === 'served') return html`<${Served} served=${row.served} order=${order} />`;
    if (column === 'thumbs') return row.thumbs_up + row.thumbs_down ? `${row.thumbs_up} up, ${row.thumbs_down} down` : NOTHING;
    return undefined;
  };
  return experiments.map((name) => {
    const rows = body.rows.filter((row) => row.experiment === name).map((row) => ({ ...row, thumbs: '' }));
    const analysis = (body.analyses ?? []).find((each) => each.experiment === name);
    return html`<div key=${name}><p><code>${name}</code></p>
      <${Table} columns=${ARM_COLUMNS} rows=${rows} cell=${cell} label=${`Arms of ${name}`} />
      <div class="cards arm-charts">${[
        ['error_rate', 'Failed', percent], ['latency_p95_ms', 'p95', axisDuration], ['cost_per_1k_requests_usd', 'Cost per 1k requests', dollars],
      ].map(([column, title, format]) => html`<div class="card third bare" key=${column}><h3>${title}</h3>
        <${Chart} on=${body} draw=${(width) => intervals(
          rows.map((row) => ({ arm: row.arm, ...(analysis?.result.arms?.find(({ arm }) => arm === row.arm)?.[column] ?? {}), value: row[column] })),
          width, { format, label: `${title} by arm: ${rows.map((row) => `${row.arm} ${format(row[column])}`).join(', ')}` })} /></div>`)}</div>
      ${analysis && html`<${Analysis} analysis=${analysis} />`}</div>`;
  });
}

const RECENT = ['at', 'request_id', 'route', 'arm', 'path', 'model', 'outcome', 'error_code', 'ttft_ms', 'latency_ms', 'output_tokens', 'cost_usd'];

function Recent({ body, open }) {
  const cell = (column, row) => {
    if (column === 'outcome') return html`<${Outcome} outcome=${row.outcome} />`;
    if (column === 'request_id') {
      return html`<button type="button" class="open" aria-haspopup="dialog" aria-label=${`Open request ${row.request_id.slice(-8)}`}
        onClick=${() => open(row.request_id)}>${row.request_id.slice(-8)}</button>`;
    }
    return undefined;
  };
  return html`<${Table} columns=${RECENT} rows=${body.rows} cell=${cell} tall=${true} label="Recent requests, table" />`;
}

const CALL_FACTS = [
  'finish_reason', 'ttft_ms', 'latency_ms', 'input_tokens', 'output_tokens', 'cached_tokens', 'reasoning_tokens', 'units',
  'unit', 'estimated', 'cost_usd', 'fallback_from', 'cold_start', 'region',
];
const REQUEST_FACTS = [
  'at', 'route', 'modality', 'caller_kind', 'experiment', 'arm', 'gate', 'gate_arm', 'rollout_id', 'rollout_share',
  'config_version', 'deployment',
];

function Pairs({ row, names }) {
  const told = names.filter((name) => row[name] !== null && row[name] !== undefined && row[name] !== '');
  return html`<dl class="pairs">${told.map((name) => html`<dt>${heading(name)}</dt><dd>${written(name, row[name])}</dd>`)}</dl>`;
}

/** A call's time: until its first token, then until its end. */
function Timing({ row, longest }) {
  const first = isNumber(row.ttft_ms) ? (100 * row.ttft_ms) / longest : 0;
  const whole = (100 * row.latency_ms) / longest;
  const good = row.outcome === 'ok' || row.outcome === 'cancelled';
  return html`<div class="bar" aria-hidden="true"><svg preserveAspectRatio="none" viewBox="0 0 100 10">
    <rect width=${first} height="10" fill=${colour(0)} fill-opacity="0.4" />
    <rect x=${first} width=${Math.max(0, whole - first)} height="10" fill=${good ? colour(0) : danger()} />
  </svg></div>`;
}

function Drawer({ id, close }) {
  const dialog = useRef(null);
  const [state, setState] = useState({ rows: null, problem: null });
  useEffect(() => {
    if (!dialog.current.open) dialog.current.showModal();
    fetched(`/api/dashboard/request?${new URLSearchParams({ id })}`)
      .then((response) => response.json())
      .then(({ rows }) => setState({ rows, problem: null }))
      .catch((error) => setState({ rows: null, problem: error.message }));
  }, [id]);
  const { rows, problem } = state;
  const longest = Math.max(...(rows ?? []).map((row) => row.latency_ms), 1);
  return html`<dialog ref=${dialog} aria-labelledby="drawer-title" onClose=${close}
    onClick=${(event) => event.target === dialog.current && dialog.current.close()}>
    <header><h2 id="drawer-title">Request <code>${id}</code></h2>
      <button type="button" onClick=${() => dialog.current.close()}>Close</button></header>
    ${problem && html`<p class="warning" role="alert">${problem}</p>`}
    ${!rows && !problem && html`<p role="status">Loading…</p>`}
    ${rows && html`<${Pairs} row=${rows[0]} names=${REQUEST_FACTS} />
      ${rows[0].thumb && html`<p>Its reader’s thumb: ${rows[0].thumb === 1 ? 'up' : 'down'}</p>`}
      <h3>${rows.length === 1 ? 'One call' : `${rows.length} calls`}</h3>
      <div class="calls">${rows.map((row) => html`<section class="one-call" key=${row.attempt}>
        <p><strong>${row.attempt}. ${row.provider}</strong> · ${row.model}</p>
        <p>${row.kind} · <${Outcome} outcome=${row.outcome} /> ${row.error_code ?? ''}</p>
        <${Timing} row=${row} longest=${longest} />
        <${Pairs} row=${row} names=${CALL_FACTS} /></section>`)}</div>`}
  </dialog>`;
}

function Controls({ asked, ask, options, renewedAt, scope }) {
  return html`<form class="controls" aria-label="Range and filters" onSubmit=${(event) => event.preventDefault()}>
    <fieldset class="ranges"><legend class="visually-hidden">Range</legend>
      ${Object.entries(RANGES).map(([value, title]) => html`<label key=${value}>
        <input type="radio" name="range" value=${value} checked=${asked.range === value} onChange=${() => ask({ range: value })} />
        <span>${title}</span></label>`)}
    </fieldset>
    ${Object.entries(FILTERS).map(([name, title]) => html`<div class="filter" key=${name}><label for=${`filter-${name}`}>${title}</label>
      <select id=${`filter-${name}`} name=${name} class=${asked[name] ? 'set' : ''} value=${asked[name]} onChange=${(event) => ask({ [name]: event.target.value })}>
        <option value="" selected=${!asked[name]}>All</option>
        ${(options[name] ?? (asked[name] ? [asked[name]] : [])).map((value) => html`<option value=${value} selected=${asked[name] === value}>${value}</option>`)}
      </select></div>`)}
    <p class="freshness">${scope && html`<strong>${scope === 'all' ? 'All callers' : 'Your own requests'}</strong> · `}
      ${renewedAt ? `as of ${renewedAt.toISOString().slice(11, 19)} UTC` : 'loading'}</p>
  </form>`;
}

function Dashboard() {
  const [asked, setAsked] = useState(fromAddress);
  const [beat, setBeat] = useState(0);
  const [{ body: told }] = usePanel('options', asked, beat);
  const [renewedAt, setRenewedAt] = useState(null);
  useEffect(() => {
    if (told) setRenewedAt(new Date());
  }, [told]);

  const ask = useCallback((change) => {
    setAsked((old) => {
      const now = { ...old, ...change };
      history.pushState(null, '', toAddress(now));
      return now;
    });
  }, []);
  useEffect(() => {
    const back = () => setAsked(fromAddress());
    addEventListener('popstate', back);
    return () => removeEventListener('popstate', back);
  }, []);
  useEffect(() => {
    const renew = () => document.visibilityState === 'visible' && setBeat((number) => number + 1);
    const timer = setInterval(renew, RENEW_MS[asked.range] ?? RENEW_SLOWLY_MS);
    document.addEventListener('visibilitychange', renew);
    return () => {
      clearInterval(timer);
      document.removeEventListener('visibilitychange', renew);
    };
  }, [asked.range]);

  const options = useMemo(() => {
    const found = {};
    for (const { filter, value } of told?.rows ?? []) (found[filter] ??= []).push(value);
    return told ? found : {};
  }, [told]);
  // A provider keeps its colour whatever is filtered by; the first seen has the first.
  const seen = useRef([]);
  const order = useMemo(() => {
    for (const name of options.provider ?? []) if (!seen.current.includes(name)) seen.current.push(name);
    return [...seen.current];
  }, [options]);
  const placed = (rows) => {
    for (const row of rows) if (!order.includes(row.provider)) order.push(row.provider);
    return order.filter((name) => rows.some((row) => row.provider === name)).map((name) => [name, order.indexOf(name)]);
  };
  const panel = { asked, beat };
  const QUIET = 'Nothing happened in this range.';
  return html`
    <h2 class="visually-hidden">Dashboard</h2>
    <${Controls} asked=${asked} ask=${ask} options=${options} renewedAt=${renewedAt} scope=${told?.scope} />
    <${Tiles} ...${panel} />
    <div class="cards">
      <${Card} ...${panel} name="requests" size="two-thirds" title="Requests" note="By the provider that had the last word"
        empty=${html`No requests in this range. <a href="/">Ask something</a>, or run <code>make traffic</code>.`}>
        ${(body) => html`<${Legend} names=${placed(body.rows)} kind="bar" failed=${body.rows.some((row) => row.failed)} />
          <${Chart} on=${body} draw=${(width) => stack(body, width, {
            value: 'requests', failed: 'failed', order, format: short,
            label: `Requests over time: ${count(body.rows.reduce((sum, row) => sum + row.requests, 0))} in all, ${count(body.rows.reduce((sum, row) => sum + row.failed, 0))} failed` })} />`}
      <//>
      <${Card} ...${panel} name="errors" size="third" title="What broke" note="Failed calls, and whose callers were answered nevertheless"
        table=${false} empty="No call failed.">${(body) => html`<${Errors} rows=${body.rows} />`}<//>

      <${Card} ...${panel} name="latency" title="Latency" note="Of answered requests, failed calls included" empty=${QUIET}>
        ${(body) => html`<${Legend} names=${[['p50', 0], ['p95', 1], ['p99', 2]]} kind="line" />
          <${Chart} on=${body} draw=${(width) => lines(body, width, {
            series: [['p50_ms', 'p50'], ['p95_ms', 'p95'], ['p99_ms', 'p99']], format: axisDuration,
            label: `Latency over time, at last p50 ${duration(body.rows.at(-1).p50_ms)}, p95 ${duration(body.rows.at(-1).p95_ms)}` })} />`}
      <//>
      <${Card} ...${panel} name="ttft" title="Time to first token" note="Of the calls that answered" empty=${QUIET}>
        ${(body) => html`<${Legend} names=${[['p50', 0], ['p95', 1]]} kind="line" />
          <${Chart} on=${body} draw=${(width) => lines(body, width, {
            series: [['p50_ms', 'p50'], ['p95_ms', 'p95']], format: axisDuration,
            label: `Time to first token, at last p50 ${duration(body.rows.at(-1).p50_ms)}` })} />`}
      <//>

      <${Card} ...${panel} name="arms" size="whole" title="Experiment arms" table=${false}
        note="By the arm that was assigned, whoever answered" empty="Nobody was assigned to an arm in this range.">
        ${(body) => html`<${Arms} body=${body} order=${order} />`}<//>

      <${Card} ...${panel} name="fallbacks" title="Fallback and recovery" note="From whom to whom, why, and whether that answered"
        table=${false} empty="Nobody had to stand in for anybody.">${(body) => html`<${Fallbacks} rows=${body.rows} />`}<//>
      <${Card} ...${panel} name="models" title="Tokens per second" note="Median and quartiles after the first token" empty=${QUIET}>
        ${(body) => {
          const rows = body.rows.filter((row) => row.measured > 0);
          placed(rows);
          return rows.length
            ? html`<${Chart} on=${body} draw=${(width) => quartiles(rows, width, { order, format: speed,
                label: `Tokens per second: ${rows.map((row) => `${row.provider} ${row.model} ${speed(row.speed_p50)}`).join(', ')}` })} />`
            : html`<div class="said">No answer had a second token.</div>`;
        }}
      <//>

      <${Card} ...${panel} name="cost" title="Cost" note="By provider; the table of models has it per 1k requests" empty=${QUIET}>
        ${(body) => body.rows.some((row) => row.cost_usd > 0)
          ? html`<${Legend} names=${placed(body.rows)} kind="bar" />
            <${Chart} on=${body} draw=${(width) => stack(body, width, { value: 'cost_usd', order, format: dollars,
              label: `Cost over time: ${dollars(body.rows.reduce((sum, row) => sum + row.cost_usd, 0))} in all` })} />`
          : html`<div class="said">${body.rows.some((row) => row.unpriced) ? 'Nobody knows the prices of these models.' : 'All of it was free: the embedded models cost nothing.'}</div>`}
      <//>
      <${Card} ...${panel} name="savings" title="Vendors’ caches" note="Input that was read before costs less" table=${false} empty=${QUIET}>
        ${(body) => html`<${Table} columns=${body.columns} rows=${body.rows} label="Savings" />`}<//>

      <${Card} ...${panel} name="rollout" size="whole short" title="Rollout" note="How far the candidate has come, and what decided it"
        filled=${hasRollouts} lasting=${true} empty="No rollout has begun.">
        ${(body, renew) => html`<${Rollouts} body=${body} renew=${renew} parts=${{ Chart, Legend, Swatch, save }} />`}<//>
      <${Card} ...${panel} name="jobs" size="short" title="Video jobs" table=${false}
        note="The last fifty, scripts to narrated films" empty="No video was asked for in this range.">
        ${(body) => html`<${Table} columns=${body.columns} rows=${body.rows} label="The last video jobs" />`}<//>

      <${Card} ...${panel} name="recent" size="whole" title="Recent requests" note="The last fifty; what was asked and answered is kept nowhere"
        table=${false} empty=${QUIET}>${(body) => html`<${Recent} body=${body} open=${(request) => ask({ request })} />`}<//>
    </div>
    ${asked.request && html`<${Drawer} key=${asked.request} id=${asked.request} close=${() => ask({ request: null })} />`}
  `;
}

render(html`<${Dashboard} />`, document.getElementById('dashboard'));
