/**
 * The rollouts on the dashboard: where each gate stands and why, its share and the evidence over time, and what an
 * operator may do about it. By GET /api/dashboard/rollout; commands go to POST /api/rollout.
 */

import { html, useEffect, useRef, useState } from './vendor/preact.js';
import { evidence, hasMark, steps, svgFile, timeText } from './charts.js';

const NOTHING = '–';
/** A status in words, and the decision whose mark goes with it. */
const STATUSES = new Map([
  ['idle', ['Not started', null]],
  ['baseline', ['Measuring the control', 'started']],
  ['stage', ['Under way', 'promoted']],
  ['hold', ['On hold', 'held']],
  ['paused', ['Paused', 'paused']],
  ['rolled_back', ['Rolled back', 'rolled_back']],
  ['done', ['Done', 'done']],
]);
const DECISIONS = new Map([
  ['started', 'started'],
  ['promoted', 'promoted'],
  ['held', 'on hold'],
  ['went_on', 'went on'],
  ['paused', 'paused'],
  ['resumed', 'resumed'],
  ['rolled_back', 'rolled back'],
  ['done', 'done'],
]);
const REASONS = new Map([
  ['breach', 'harm was proven'],
  ['by_operator', 'by an operator'],
  ['set_by_hand', 'the share was set by hand'],
  ['store_unreachable', 'the flag store could not be read'],
  ['store_behind', 'the flag store had not taken the share yet'],
  ['credentials_rejected', 'the vendor rejected our credentials'],
  ['hourly_cap', 'the hourly cap was spent'],
  ['stale', 'no events had come in'],
  ['ratio', 'users were spread other than by the share'],
  ['fewest', 'waiting for users'],
]);
/** What an operator may do, by the rollout's status; the server has the last word. */
const ALLOWED = new Map([
  ['idle', ['start']],
  ['baseline', ['pause', 'roll_back']],
  ['stage', ['pause', 'roll_back']],
  ['hold', ['pause', 'roll_back']],
  ['paused', ['resume', 'roll_back']],
  ['rolled_back', ['restart']],
  ['done', ['restart', 'roll_back']],
]);
/** By command: its button, what is said once it was carried out and, where one is asked first, the question. */
const COMMANDS = {
  start: { title: 'Start', done: 'Started.', question: 'Start the rollout?' },
  restart: { title: 'Restart', done: 'Started anew.', question: 'Start the rollout anew?' },
  pause: { title: 'Pause', done: 'Paused.' },
  resume: { title: 'Resume', done: 'Resumed.' },
  roll_back: { title: 'Roll back', done: 'Rolled back.', question: 'Roll back?' },
};

/** Whether there is anything to show. */
export const hasRollouts = (body) => body.rows.length > 0 || (body.rollouts ?? []).length > 0;

const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);
const count = (value) => (isNumber(value) ? value.toLocaleString('en-US') : NOTHING);
const percentText = (value) => (isNumber(value) ? `${+value.toFixed(3)} %` : NOTHING);

/** A moment as the API writes it, in ISO 8601 or in seconds; null where it is none. */
function moment(value) {
  const at = new Date(isNumber(value) ? value * 1000 : (value ?? NaN));
  return Number.isNaN(+at) ? null : at;
}

/** An e-value, given by its natural logarithm: how many times as likely such data are if the candidate is worse. */
function eText(logE) {
  if (!isNumber(logE)) return NOTHING;
  const e = Math.exp(Math.min(logE, 700));
  if (e < 0.01) return 'below 0.01';
  if (e > 1e6) return 'above 1,000,000';
  return e < 10 ? String(+e.toPrecision(2)) : count(Math.round(e));
}

function daysText(days) {
  if (!isNumber(days)) return NOTHING;
  if (days < 1 / 24) return `${Math.max(1, Math.round(days * 1440))} min`;
  if (days < 2) return `${+(days * 24).toPrecision(2)} h`;
  return `${days < 10 ? +days.toFixed(1) : Math.round(days)} days`;
}

/** Have the server do something to a gate's rollout; what it answers. Throws an error in words. */
async function commanded(action, gate) {
  let response;
  try {
    const headers = { 'content-type': 'application/json', accept: 'application/json' };
    response = await fetch('/api/rollout', { method: 'POST', headers, body: JSON.stringify({ action, gate }) });
  } catch {
    throw new Error('The server could not be reached.');
  }
  const told = await response.json().catch(() => null);
  if (!response.ok) throw new Error(told?.detail ?? `The server answered ${response.status}.`);
  if (told === null) throw new Error('The answer could not be read.');
  return told;
}

/**
 * The share from the beginning of the range until now, as {at, percent}: by the decisions, by what was read in between,
 * and by the status, which knows since when nothing has changed.
 */
function course(rollout, rows, body) {
  const unmoved = rollout.status === 'idle' ? [] : [{ at: rollout.since, percent: rollout.percent }];
  const known = [...(rollout.readings ?? []), ...rows, ...unmoved]
    .map(({ at, percent }) => ({ at: moment(at), percent }))
    .filter(({ at, percent }) => at && isNumber(percent))
    .sort((one, other) => one.at - other.at);
  // The page's clock may be slow.
  const now = Math.max(Date.now(), known.at(-1)?.at ?? 0);
  const [from, to] = [new Date(body.from), new Date(Math.min(now, new Date(body.to)))];
  const before = known.findLast(({ at }) => at < from);
  const points = known.filter(({ at }) => at >= from && at <= to);
  if (before) points.unshift({ at: from, percent: before.percent });
  if (points.length && isNumber(rollout.percent)) points.push({ at: to, percent: rollout.percent });
  return points;
}

function marksOf(rows) {
  return rows
    .filter(({ at, percent, decision }) => hasMark(decision) && moment(at) && isNumber(percent))
    .map(({ at, percent, decision, reason }) => {
      const word = DECISIONS.get(decision);
      const why = reason ? [REASONS.get(reason) ?? String(reason)] : [];
      return { at: moment(at), percent, decision, word, title: [timeText(moment(at)), `${word}, ${percentText(percent)}`, ...why].join('\n') };
    });
}

function Share({ rollout, rows, body, parts: { Chart, Legend } }) {
  const points = course(rollout, rows, body);
  if (!points.length) return null;
  const marks = marksOf(rows);
  const used = [...DECISIONS].filter(([decision]) => marks.some((mark) => mark.decision === decision));
  const told = used.map(([decision, word]) => `${marks.filter((mark) => mark.decision === decision).length} ${word}`);
  return html`<div><h3>Share of users with the candidate</h3>
    <${Legend} names=${used.map(([decision, word]) => [word, decision])} kind="mark" />
    <${Chart} on=${rollout} draw=${(width) => steps(body, width, {
      points, marks, stages: stagesOf(rollout), format: percentText,
      label: `Share of users with the candidate over time, at last ${percentText(points.at(-1).percent)}; ${told.join(', ')}` })} /></div>`;
}

function Evidence({ rollout, body, parts: { Chart, Legend, save } }) {
  const whole = useRef(null);
  const [from, to] = [new Date(body.from), new Date(body.to)];
  const readings = (rollout.readings ?? [])
    .map((reading) => ({ ...reading, at: moment(reading.at) }))
    .filter(({ at }) => at && at >= from && at <= to);
  if (!readings.length) return null;
  const series = rollout.evidence
    .map(({ test, words, log_threshold: threshold }) => [test, words, rollout.thresholds?.[test] ?? threshold])
    .filter(([, , threshold]) => isNumber(threshold));
  const last = series.map(([test, words, threshold]) => `${words} ${eText(readings.at(-1).log_e?.[test])} of ${eText(threshold)}`);
  return html`<div ref=${whole}><div class="card-head"><h3>Evidence that the candidate is worse, against its thresholds</h3>
      <div class="exports"><button type="button" aria-label="Evidence as SVG"
        onClick=${() => save(svgFile(whole.current.querySelector('.chart svg')), `evidence-${body.range}.svg`)}>SVG</button></div></div>
    <${Legend} names=${series.map(([, words], index) => [words, index])} kind="line" />
    <${Chart} on=${rollout} draw=${(width) => evidence(body, readings, width, {
      series, format: eText, label: `Evidence that the candidate is worse, over time; at last ${last.join(', ')}` })} /></div>`;
}

function Tests({ rollout }) {
  return html`<div class="scroll tests" tabindex="0" role="region" aria-label=${`Evidence on ${rollout.gate}`}><table>
    <thead><tr><th scope="col">Test</th><th scope="col" class="number">Evidence (e)</th><th scope="col" class="number">Threshold</th>
      <th scope="col" class="number">Users hit, candidate</th><th scope="col" class="number">Users hit, control</th>
      <th scope="col" class="number">Harm ruled out</th></tr></thead>
    <tbody>${rollout.evidence.map((row) => html`<tr key=${row.test}>
      <th scope="row">${row.words}</th>
      <td class="number">${row.breached && html`<strong class="breached">worse</strong> `}${eText(row.log_e)}</td>
      <td class="number">${eText(row.log_threshold)}</td>
      <td class="number">${count(row.treated)}</td>
      <td class="number">${count(row.control)}</td>
      <td class="number heat">${isNumber(row.safe) && html`<i style=${{ width: `${100 * row.safe}%` }}></i>`}<span>${
        isNumber(row.safe) ? `${Math.floor(100 * row.safe)} %` : NOTHING}</span></td></tr>`)}</tbody>
  </table></div>
  <p class="fine">An e-value of 250 comes about by chance in at most one of 250 rollouts of a harmless candidate, however
    often one looks. At its threshold the gate goes back to 0 %. “Harm ruled out” is how much of the evidence against
    harm of the tolerated size is there.</p>`;
}

const stagesOf = (rollout) => (rollout.stages ?? []).filter(isNumber);
/** Percentages were shares, which are no decimal fractions. */
const isReached = (stage, percent) => isNumber(percent) && stage <= percent + 1e-6;

/** The stages, those that were reached filled, the one of now marked. */
function Stages({ rollout }) {
  const stages = stagesOf(rollout);
  const now = stages.findLast((stage) => isReached(stage, rollout.percent));
  return stages.length > 0 && html`<ol class="stages" role="list" aria-label="Stages">${stages.map((stage) => html`<li key=${stage}
    data-reached=${isReached(stage, rollout.percent) ? '' : null} aria-current=${stage === now ? 'step' : null}>${
    percentText(stage)}</li>`)}</ol>`;
}

/** How long it takes, by the traffic of the last days. */
function PlanSentence({ plan }) {
  const end = isNumber(plan.days_to_done)
    ? html`a candidate that does no harm has everybody after <strong>${daysText(plan.days_to_done)}</strong>`
    : 'even a candidate that does no harm would take more than a year';
  return html`<p>With ${count(Math.round(plan.users_per_day))} users a day, ${end}. Harm is found, and the gate goes back:</p>`;
}

function Harms({ plan }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Days to detect harm"><table>
      <thead><tr><th scope="col">Harm</th><th scope="col" class="number">As a rule</th><th scope="col" class="number">19 of 20 within</th>
        <th scope="col" class="number">Meets</th><th scope="col" class="number">At</th></tr></thead>
      <tbody>${(plan.harms ?? []).map((row) => html`<tr key=${row.harm}><th scope="row">${row.harm}</th>${
        isNumber(row.days)
          ? html`<td class="number">${daysText(row.days)}</td><td class="number">${daysText(row.days_late)}</td>
            <td class="number">${count(Math.round(row.treated))} users</td><td class="number">${percentText(100 * row.share)}</td>`
          : html`<td colspan="4">not before everybody has it</td>`}</tr>`)}</tbody>
    </table></div>`;
}

/** Before the first user is treated: the plan, then a button. */
function Start({ gate, onReady }) {
  const [{ plan, problem }, setState] = useState({ plan: null, problem: null });
  useEffect(() => {
    let gone = false;
    commanded('plan', gate)
      .then((told) => ({ plan: told, problem: null }))
      .catch((error) => ({ plan: null, problem: error.message }))
      .then((news) => {
        if (gone) return;
        setState(news);
        onReady();
      });
    return () => {
      gone = true;
    };
  }, [gate]);
  if (problem) return html`<p class="warning" role="alert">No forecast: ${problem}</p>`;
  return html`<div role="status">${plan ? html`<${PlanSentence} plan=${plan} />` : html`<p>Reckoning how long it takes…</p>`}</div>
    ${plan && html`<${Harms} plan=${plan} />`}`;
}

function Question({ name, gate, busy, problem, confirm, close }) {
  const { title, question } = COMMANDS[name];
  const back = name === 'roll_back';
  const dialog = useRef(null);
  const [ready, setReady] = useState(back);
  useEffect(() => dialog.current.showModal(), []);
  return html`<dialog class="confirm" ref=${dialog} aria-labelledby="confirm-title" onClose=${close}>
    <h2 id="confirm-title">${question} <code>${gate}</code></h2>
    ${back
      ? html`<p>Everybody gets production again, at once. The rollout can only be begun anew afterwards.</p>`
      : html`<p>The control is measured first; then the share rises stage by stage, as fast as the evidence allows.</p>
        <${Start} gate=${gate} onReady=${() => setReady(true)} />`}
    ${problem && html`<p class="warning" role="alert">${problem}</p>`}
    <div class="choices">
      <button type="button" data-command=${name} aria-disabled=${busy || !ready ? 'true' : 'false'}
        onClick=${() => ready && confirm()}>${title}</button>
      <button type="button" onClick=${() => dialog.current.close()}>Cancel</button>
    </div>
  </dialog>`;
}

function Rollout({ rollout: told, rows, body, renew, parts }) {
  const [answer, setAnswer] = useState(null);
  const [asking, setAsking] = useState(null);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState('');
  const [said, setSaid] = useState('');
  const place = useRef(null);
  // What a command answered holds until the panel is there anew.
  const rollout = answer?.body === body ? { ...told, ...answer.told } : told;
  const status = STATUSES.has(rollout.status) ? rollout.status : 'idle';
  const { Swatch } = parts;
  // The button that was pressed may be gone: go on from what has become of it.
  useEffect(() => {
    if (said) place.current.focus();
  }, [said]);

  const run = async (name) => {
    if (busy) return;
    setBusy(true);
    setProblem('');
    setSaid('');
    try {
      setAnswer({ body, told: await commanded(name, rollout.gate) });
      setAsking(null);
      setSaid(COMMANDS[name].done);
      renew();
    } catch (error) {
      setProblem(error.message);
    } finally {
      setBusy(false);
    }
  };
  const press = (name) => {
    if (!COMMANDS[name].question) return run(name);
    setProblem('');
    setSaid('');
    setAsking(name);
  };
  const turnBack = () => {
    setAsking(null);
    setProblem('');
  };

  const [title, decision] = STATUSES.get(status);
  const since = moment(rollout.since);
  return html`<div class="rollout">
    <div class="rollout-head">
      <div>
        <p class="rollout-status" data-status=${status} tabindex="-1" ref=${place}>
          ${decision && html`<${Swatch} index=${decision} kind="mark" />`}
          <span><strong>${title}</strong>${['stage', 'hold', 'paused'].includes(status) && ` at ${percentText(rollout.percent)}`}</span></p>
        ${rollout.words && status !== 'idle' && html`<p>${rollout.words}</p>`}
        ${status === 'idle' && html`<p>Everybody gets production${
          body.scope === 'all' ? '. Starting shows first how long it takes, by the traffic of the last days.' : '.'}</p>`}
        <p class="fine"><code>${rollout.gate}</code>${rollout.store && ` · share kept in: ${rollout.store}`}${
          since && status !== 'idle' && ` · since ${timeText(new Date(Math.floor(+since / 60_000) * 60_000))}`}</p>
      </div>
      ${body.scope === 'all' && html`<div class="commands" role="group" aria-label=${`Rollout of ${rollout.gate}`}>
        ${ALLOWED.get(status).map((name) => html`<button type="button" key=${name} data-command=${name}
          aria-haspopup=${COMMANDS[name].question ? 'dialog' : null} aria-disabled=${busy ? 'true' : 'false'}
          onClick=${() => press(name)}>${COMMANDS[name].title}${COMMANDS[name].question && '…'}</button>`)}
      </div>`}
    </div>
    <p role="status" class="visually-hidden">${said}</p>
    ${problem && !asking && html`<p class="warning" role="alert">${problem}</p>`}
    <${Stages} rollout=${rollout} />
    <div class="rollout-charts">
      <${Share} rollout=${rollout} rows=${rows} body=${body} parts=${parts} />
      ${rollout.evidence?.length > 0 && html`<${Evidence} rollout=${rollout} body=${body} parts=${parts} />`}
    </div>
    ${rollout.evidence?.length > 0 && html`<${Tests} rollout=${rollout} />`}
    ${asking && html`<${Question} key=${asking} name=${asking} gate=${rollout.gate} busy=${busy} problem=${problem}
      confirm=${() => run(asking)} close=${turnBack} />`}
  </div>`;
}

/**
 * All gates of the panel.
 * @param {{body: object, renew: () => void, parts: {Chart: Function, Legend: Function, Swatch: Function, save: Function}}} props
 *   renew: fetches the panel anew; parts: the dashboard's own
 */
export function Rollouts({ body, renew, parts }) {
  const gates = new Map(body.rows.map(({ gate }) => [gate, { gate }]));
  for (const rollout of body.rollouts ?? []) gates.set(rollout.gate, rollout);
  return [...gates].map(([gate, rollout]) => html`<${Rollout} key=${gate} rollout=${rollout} body=${body} renew=${renew} parts=${parts}
    rows=${body.rows.filter((row) => row.gate === gate)} />`);
}
