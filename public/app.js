/**
 * The playground: a conversation with POST /api/generate, shown while it streams.
 *
 * What was typed or generated enters the page as text nodes, never as HTML. A turn's `data-state` is `waiting`,
 * `reasoning`, `streaming` or `making` (pictures, speech), and then for good `done`, `stopped` (by the reader), `interrupted` (it began, then came
 * an error) or `failed` (an error instead of an answer).
 */

import { fileElement, offerOutputs, outputsOf } from './media.js';

const GENERATE = '/api/generate';
const FEEDBACK = '/api/feedback';
const DEMO_PROVIDER = 'local';
const CLOSE_TO_BOTTOM_PX = 32;
const COPIED_MS = 2000;
const UNKNOWN = 'unknown';

const byId = (id) => document.getElementById(id);
const [prompt, send, stop, copy, renew] = ['prompt', 'send', 'stop', 'copy', 'renew'].map(byId);

/** @type {Turn[]} */
let turns = [];
/** @type {AbortController | null} The request under way. */
let running = null;
/** Whether the reader is at the end and wants to stay there while it moves. */
let following = true;
let lastScrollY = 0;
/** Whether there is a database to keep thumbs in. */
let keepsFeedback = false;

/** An error with what its reader needs to know; `fields` are the parts of the request it complains about. */
class Problem extends Error {
  constructor(title, detail, { requestId = null, fields = [] } = {}) {
    super(detail);
    this.title = title;
    this.requestId = requestId;
    this.fields = fields;
  }
}

/** One prompt and its answer, on the page. */
class Turn {
  answer = '';
  hasFiles = false;
  #served = {};
  #problem = null;
  #finishReason = null;
  #askedAt = performance.now();
  #firstTokenMs = null;

  /** `options` are what the request said besides the question. */
  constructor(question, options = {}) {
    this.question = question;
    this.options = options;
    const makes = { image: 'the picture', speech: 'the speech' };
    const made = (options.outputs ?? []).map((output) => makes[output]).filter(Boolean);
    this.making = made.length ? `Making ${made.join(' and ')}` : '';
    this.element = byId('turn-template').content.firstElementChild.cloneNode(true);
    this.#part('prompt').textContent = question;
    this.#part('retry').addEventListener('click', () => askAgain(this));
    for (const button of this.element.querySelectorAll('.thumb')) {
      button.addEventListener('click', () => this.#judge(button));
    }
  }

  /** Show what one chunk of the stream says; types that we do not know say nothing to us. */
  take(chunk) {
    switch (chunk.type) {
      case 'start':
        this.#learn(chunk.messageMetadata);
        if (this.making && !this.#served.provider) this.#state('making', this.making);
        break;
      case 'text-end':
        if (this.making) this.#state('making', this.making);
        break;
      case 'reasoning-delta':
        this.#part('reasoning').hidden = false;
        this.#state('reasoning', 'Thinking');
        this.#grow(this.#part('reasoning').querySelector('p'), chunk.delta);
        break;
      case 'text-delta':
        this.answer += chunk.delta;
        this.#state('streaming');
        this.#grow(this.#part('text'), chunk.delta);
        break;
      case 'file':
        this.#part('files').append(fileElement(chunk, this.question));
        this.hasFiles = true;
        break;
      case 'error':
        this.#problem = new Problem('Interrupted', chunk.errorText, { requestId: this.#served.id });
        break;
      case 'finish':
        this.#finishReason = chunk.finishReason;
        this.#learn(chunk.messageMetadata);
    }
  }

  /** The stream has ended. Throws the Problem that it reported, or that it has no end. */
  end() {
    if (this.#problem) throw this.#problem;
    if (!this.#finishReason) throw this.#cut();
    this.#settle('done', finishNote(this.#finishReason, this.answer || this.hasFiles));
  }

  /** The reader has had enough. */
  stop() {
    this.#settle('stopped', this.answer ? 'Stopped: the answer is incomplete.' : 'Stopped before the answer began.');
  }

  /** Show the error that ended this turn. */
  fail(error) {
    const begun = this.#firstTokenMs !== null;
    const problem = error instanceof Problem ? error : begun ? this.#cut() : unreachable();
    this.#settle(begun ? 'interrupted' : 'failed', '');
    this.#part('problem-title').textContent = problem.title;
    this.#part('problem-detail').textContent = problem.message;
    this.#part('problem-fields').replaceChildren(...problem.fields.map((field) => element('li', {}, field)));
    this.#part('problem-request').hidden = !problem.requestId;
    this.#part('problem-request').querySelector('code').textContent = problem.requestId;
    this.#part('problem').hidden = false;
  }

  /** Tell what the reader thinks of this answer; the last thumb counts. */
  async #judge(button) {
    const body = JSON.stringify({ request_id: this.#served.id, thumb: button.dataset.thumb });
    const headers = { 'content-type': 'application/json' };
    const kept = await fetch(FEEDBACK, { method: 'POST', headers, body })
      .then((response) => response.ok)
      .catch(() => false);
    this.#part('thumb-said').textContent = kept ? 'Thank you.' : 'That could not be kept.';
    if (!kept) return;
    for (const thumb of this.element.querySelectorAll('.thumb')) {
      thumb.setAttribute('aria-pressed', String(thumb === button));
    }
  }

  #cut() {
    return new Problem('Interrupted', 'The connection broke off before the answer was complete.', {
      requestId: this.#served.id,
    });
  }

  #learn(served) {
    this.#served = { ...this.#served, ...served };
    byId('demo-note').hidden = this.#served.provider !== DEMO_PROVIDER;
    this.#showFacts({ Provider: this.#served.provider, Model: this.#served.model });
  }

  #grow(paragraph, text) {
    this.#firstTokenMs ??= performance.now() - this.#askedAt;
    if (!paragraph.firstChild) paragraph.append('');
    paragraph.firstChild.appendData(text);
  }

  #settle(state, note) {
    this.#state(state, note);
    const failures = this.#served.errors ?? [];
    this.#part('failures').replaceChildren(
      ...failures.map(({ output, detail }) => element('li', {}, `No ${output}: ${detail}`)),
    );
    this.#part('answer').setAttribute('aria-busy', 'false');
    this.#showFacts(factsOf(this.#served, this.#firstTokenMs));
    this.#part('thumbs').hidden = !this.#served.id || !this.answer || !keepsFeedback;
  }

  #state(state, note = '') {
    if (this.element.dataset.state === state) return;
    this.element.dataset.state = state;
    this.#part('state').textContent = note;
  }

  #showFacts(facts) {
    if (!this.#served.provider && !this.#served.assets) return;
    const pairs = Object.entries(facts).map(([term, value]) =>
      element('div', {}, element('dt', {}, term), element('dd', {}, value)),
    );
    this.#part('facts').replaceChildren(...pairs);
    this.#part('facts').hidden = false;
  }

  #part(className) {
    return this.element.querySelector(`.${className}`);
  }
}

async function ask(question, options = outputsOf()) {
  const body = requestBody(question, turns, options);
  const turn = new Turn(question, options);
  turns.push(turn);
  byId('conversation').append(turn.element);
  running = new AbortController();
  refresh();
  following = true;
  keepUp();
  await answer(turn, body, running.signal);
  running.abort(); // A stream that we could not read to its end is not left open.
  running = null;
  refresh();
  keepUp();
}

/** Whatever happens ends up on the page, in the turn. */
async function answer(turn, body, signal) {
  try {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(GENERATE, { method: 'POST', headers, body: JSON.stringify(body), signal });
    if (!response.ok) throw await problemOf(response);
    for await (const chunk of chunksOf(response.body)) turn.take(chunk);
    turn.end();
  } catch (error) {
    if (signal.aborted) return turn.stop();
    if (!(error instanceof Problem)) console.error(error);
    turn.fail(error);
  }
}

function askAgain(turn) {
  turns = turns.filter((other) => other !== turn);
  turn.element.remove();
  ask(turn.question, turn.options);
  stop.focus();
}

/** The conversation so far and the question. Turns without an answer are left out: a refused prompt stays refused. */
function requestBody(question, earlier, options = outputsOf()) {
  const answered = earlier.filter((turn) => turn.answer.trim());
  if (!answered.length) return { prompt: question, ...options };
  const messages = answered.flatMap((turn) => [
    { role: 'user', content: turn.question },
    { role: 'assistant', content: turn.answer },
  ]);
  return { messages: [...messages, { role: 'user', content: question }], ...options };
}

/** The JSON chunks of a UI message stream, however its bytes were split on their way. */
async function* chunksOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      const data = line.startsWith('data:') ? line.slice('data:'.length).trim() : '';
      if (data && data !== '[DONE]') yield JSON.parse(data);
    }
  }
}

/** This page has no place for a key, and should not have one. */
const NEEDS_A_KEY =
  'This deployment answers only callers with an API key, and this page has none. ' +
  'Set ALLOW_ANONYMOUS=1 and SESSION_SECRET there to let guests in, or call it with curl.';

/** An answer with an error status as a Problem, also where something in front of the API gave it. */
async function problemOf(response) {
  const told = (await response.json().catch(() => null)) ?? {};
  const { title = `Error ${response.status}`, errors = [] } = told;
  const detail = response.status === 401 ? NEEDS_A_KEY : (told.detail ?? 'The server did not say why.');
  return new Problem(title, detail, {
    requestId: told.request_id ?? response.headers.get('x-request-id'),
    fields: errors.map(({ path, message }) => `${path}: ${message}`).filter((field) => field !== detail),
  });
}

function unreachable() {
  return new Problem('No connection', 'The server could not be reached. Check that it is running and try again.');
}

function finishNote(reason, text) {
  if (reason === 'length') return 'Cut off at the length limit.';
  if (reason === 'content-filter') return 'Cut off by the provider’s content filter.';
  return text ? '' : 'The model answered with nothing.';
}

/** The line under an answer. `firstTokenMs` is our own clock's, for an answer whose end never told the server's. */
function factsOf(served, firstTokenMs) {
  const { provider, model, usage, cost_usd: cost, timing_ms: timing, assets = [] } = served;
  const made = assets.map((asset) => `${asset.kind === 'audio' ? 'speech' : asset.kind} by ${asset.provider}`);
  const text = {
    Provider: provider,
    Model: model,
    'First token': inSeconds(timing?.ttft ?? firstTokenMs),
    Tokens: inTokens(usage),
  };
  return {
    ...(provider ? text : {}),
    ...(made.length ? { Made: [...new Set(made)].join(', ') } : {}),
    ...(made.length ? { Total: inSeconds(timing?.total ?? null) } : {}),
    Cost: inDollars(cost),
  };
}

function inSeconds(milliseconds) {
  if (milliseconds === null) return UNKNOWN;
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(2)} s`;
}

function inTokens(usage) {
  if (!usage) return UNKNOWN;
  const [read, written] = [usage.input_tokens, usage.output_tokens].map((count) => count.toLocaleString('en-US'));
  return `${usage.estimated ? 'about ' : ''}${read} in / ${written} out`;
}

/** To the cent at least, and to three digits that matter: $12.35, $0.50, $0.0000123. */
function inDollars(cost) {
  if (cost === undefined) return UNKNOWN;
  if (cost === 0) return 'free';
  const maximumFractionDigits = Math.max(2, 2 - Math.floor(Math.log10(cost)));
  return cost.toLocaleString('en-US', { style: 'currency', currency: 'USD', maximumFractionDigits });
}

function element(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Bring the page's controls in line with the conversation. */
function refresh() {
  const focused = document.activeElement;
  byId('empty').hidden = turns.length > 0;
  renew.hidden = !turns.length;
  renew.disabled = running !== null;
  byId('when-idle').hidden = running !== null;
  byId('when-running').hidden = running === null;
  copy.disabled = !prompt.value.trim() && !turns.length;
  // A button that disappears while it has the focus hands it on.
  if (focused?.closest('#when-idle[hidden], #empty[hidden]')) stop.focus();
  if (focused?.closest('#when-running[hidden]')) send.focus();
}

function newConversation() {
  turns = [];
  byId('conversation').replaceChildren();
  byId('demo-note').hidden = true;
  refresh();
  prompt.focus();
}

function submit() {
  const question = prompt.value.trim();
  if (running) return;
  if (!question) return prompt.focus();
  prompt.value = '';
  ask(question);
}

function asCurl(body) {
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  return `curl -N ${location.origin}${GENERATE} -H 'content-type: application/json' -d '${quoted}'`;
}

/** The prompt in the box as a command, or the last one sent where the box is empty. */
function currentCurl() {
  const typed = prompt.value.trim();
  return asCurl(typed ? requestBody(typed, turns) : requestBody(turns.at(-1).question, turns.slice(0, -1), turns.at(-1).options));
}

async function copyCurl() {
  let outcome = 'Copied';
  try {
    await navigator.clipboard.writeText(currentCurl());
  } catch {
    outcome = 'Not allowed';
  }
  copy.textContent = outcome;
  byId('announcer').textContent = outcome;
  setTimeout(() => {
    copy.textContent = 'Copy as curl';
    byId('announcer').textContent = '';
  }, COPIED_MS);
}

function keepUp() {
  noticeScroll(); // The event of a scroll comes a frame after it.
  if (!following) return;
  scrollTo(0, document.documentElement.scrollHeight);
  lastScrollY = scrollY;
}

/** Only a scroll upwards leaves the end: text that arrives faster than we scroll must not. */
function noticeScroll() {
  const below = document.documentElement.scrollHeight - innerHeight - scrollY;
  if (scrollY < lastScrollY) following = false;
  if (below < CLOSE_TO_BOTTOM_PX) following = true;
  lastScrollY = scrollY;
}

async function showHealth() {
  const health = await fetch('/api/health')
    .then((response) => response.json())
    .catch(() => null);
  if (!Array.isArray(health?.parts)) return showSummary('unknown', 'unknown', 'The health check did not answer.');
  const { status, parts, malformed = {} } = health;
  keepsFeedback = parts.some((part) => part.name === 'supabase' && part.on);
  // What is deployed has nothing to edit, so nobody there asks for it.
  if (health.deployment === null) showControl();
  offerOutputs(parts);
  const rows = [...Object.entries(malformed).map(malformedRow), ...parts.map(partRow)];
  byId('parts-list').replaceChildren(...rows);
  if (status !== 'ok') return showSummary('wrong', 'needs setup', 'Needs attention: see what is off or malformed.');
  const on = parts.filter((part) => part.on).length;
  showSummary('on', `${on} of ${parts.length} on`, 'What is on here, and what turns the rest on.');
}

async function showControl() {
  const { openControl } = await import('/control.js');
  await openControl();
}

function showSummary(mark, summary, note) {
  byId('parts-mark').dataset.mark = mark;
  byId('parts-summary').textContent = summary;
  byId('parts-note').textContent = note;
}

function partRow({ name, on, needs, or_one_of: others = [] }) {
  if (on) return row('on', 'on', name);
  const named = (word) => (variable) => [` ${word} `, element('code', {}, variable)];
  return row('off', 'off', name, 'set ', ...needs.flatMap(named('and')).slice(1), ...others.flatMap(named('or')));
}

function malformedRow([variable, why]) {
  return row('wrong', 'bad', element('code', {}, variable), why);
}

function row(mark, word, name, ...needs) {
  return element(
    'li',
    { class: 'part' },
    element('span', { class: 'mark', 'data-mark': mark, 'aria-hidden': 'true' }),
    element('span', {}, word),
    element('span', {}, name),
    ...(needs.length ? [element('span', { class: 'part-needs' }, ...needs)] : []),
  );
}

function onKey(event) {
  if (event.isComposing) return;
  if (event.key === 'Escape' && closeMenus()) return;
  if (event.key === 'Escape') running?.abort();
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && event.target === prompt) submit();
}

/** Close what is open in the header, but for `kept`; whether there was anything. */
function closeMenus(kept = null) {
  const open = [...document.querySelectorAll('.menu[open]')].filter((menu) => menu !== kept);
  for (const menu of open) {
    if (menu.contains(document.activeElement)) menu.firstElementChild.focus();
    menu.open = false;
  }
  return open.length > 0;
}

byId('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  submit();
});
stop.addEventListener('click', (event) => {
  // The second click of a double click on Send lands here.
  if (event.detail < 2) running?.abort();
});
copy.addEventListener('click', copyCurl);
renew.addEventListener('click', newConversation);
prompt.addEventListener('input', refresh);
for (const example of document.querySelectorAll('.example')) {
  example.addEventListener('click', () => ask(example.textContent));
}
document.addEventListener('keydown', onKey);
document.addEventListener('click', (event) => {
  const besideTheText = matchMedia('(min-width: 76rem)').matches && byId('control');
  if (!event.target.closest('.menu')) closeMenus(besideTheText);
  else closeMenus(event.target.closest('.menu'));
});
addEventListener('scroll', noticeScroll, { passive: true });
new ResizeObserver(() => {
  if (running) keepUp();
}).observe(document.body);
if (/Mac|iPhone|iPad/.test(navigator.platform)) byId('modifier').textContent = '⌘';

refresh();
showHealth();
