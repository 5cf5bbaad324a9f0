/**
 * The sales letter: a brief in, its making in view, a video out. Talks to /api/vsl alone.
 *
 * A job lives on the server: this page follows it by its events, and finds it again by the address (`#job=…`). What was
 * typed or written enters the page as text, never as HTML.
 */

const JOBS = '/api/vsl';
const AGAIN_MS = 2000;
const STAGES = [
  ['script', 'Script', ['script']],
  ['frames', 'Pictures', ['picture']],
  ['narration', 'Voice', ['narration', 'music']],
  ['render', 'Film', ['clip']],
  ['upload', 'Sound and captions', ['film']],
];
const OVER = ['succeeded', 'failed', 'canceled'];
const STATES = { queued: 'Waiting', running: 'Being made', succeeded: 'Finished', failed: 'Failed', canceled: 'Canceled' };
const DOWNLOADS = [
  ['video', 'Video (MP4)'],
  ['captions_vtt', 'Captions (VTT)'],
  ['captions_srt', 'Captions (SRT)'],
  ['transcript', 'Transcript'],
  ['poster', 'Poster'],
  ['narration', 'Sound'],
  ['manifest', 'Manifest'],
];
const SAMPLE = {
  product: 'Lumen, a solar lamp for campers',
  audience: 'people who camp away from the grid',
  offer: '39 dollars with free shipping',
  guarantee: '30 days to send it back',
  facts: 'It burns 40 hours on one charge\nIt weighs 180 grams\nIt floats, and rain does it no harm',
  'cta-text': 'Order yours today',
};

const byId = (id) => document.getElementById(id);

/** The job in view: what the server said last of it. */
let job = null;
/** @type {AbortController | null} Ends the events that are listened to. */
let listening = null;
/** Whether the words in view can be edited: only of a script that was asked for alone. */
const editable = () => job?.status === 'succeeded' && !job.result?.files?.video;

class Problem extends Error {
  constructor(message, errors = []) {
    super(message);
    this.errors = errors;
  }
}

/** A request and its JSON. Throws a Problem with the server's own words. */
async function call(path, { method = 'GET', body, headers = {} } = {}) {
  const sent = body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
  const response = await fetch(path, { method, ...sent, headers: { accept: 'application/json', ...sent.headers, ...headers } }).catch(
    () => null,
  );
  if (!response) throw new Problem('The server could not be reached. Try again.');
  const told = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw new Problem(told?.detail ?? `The server answered ${response.status}.`, told?.errors);
  return told;
}

/** The form as the API takes it; what is empty is left out. */
function briefOf() {
  const form = new FormData(byId('brief'));
  const said = Object.fromEntries([...form].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value));
  const facts = byId('facts').value.split('\n').map((line) => line.trim()).filter(Boolean);
  const [text, url] = [byId('cta-text').value.trim(), byId('cta-url').value.trim()];
  return {
    ...said,
    duration_s: Number(said.duration_s),
    ...(said.budget_usd ? { budget_usd: Number(said.budget_usd) } : {}),
    ...(facts.length ? { facts: facts.map((fact, index) => ({ id: `f${index + 1}`, text: fact })) } : {}),
    ...(text || url ? { cta: { ...(text ? { text } : {}), ...(url ? { url } : {}) } } : {}),
    captions: { style: byId('caption-style').value, burn_in: byId('burn-in').checked },
  };
}

/** Show what is wrong with the brief, at the fields it is about. */
function complain(problem) {
  for (const field of document.querySelectorAll('#brief [aria-invalid]')) field.removeAttribute('aria-invalid');
  byId('brief-problem').hidden = !problem;
  if (!problem) return;
  byId('brief-problem').textContent = problem.message;
  for (const { path } of problem.errors ?? []) {
    byId(path.split(/[.[]/)[0])?.setAttribute('aria-invalid', 'true');
  }
  const first = document.querySelector('#brief [aria-invalid]');
  (first ?? byId('brief-problem')).scrollIntoView({ block: 'nearest' });
  first?.focus();
}

async function start(body) {
  complain(null);
  try {
    follow((await call(JOBS, { method: 'POST', body })).id);
    byId('job-title').focus();
  } catch (problem) {
    complain(problem);
  }
}

async function estimate() {
  complain(null);
  byId('estimate-told').textContent = '';
  try {
    const { total_usd: total, stages } = await call(JOBS, { method: 'POST', body: { ...briefOf(), estimate: true } });
    const lines = Object.entries(stages).map(([stage, { cost_usd: cost }]) => `${stage}: ${inDollars(cost)}`);
    byId('estimate-told').textContent = [`At most ${inDollars(total)}`, ...lines].join('\n');
  } catch (problem) {
    complain(problem);
  }
}

/** Listen to a job until it is over, again and again where the connection ends before. */
async function follow(id) {
  listening?.abort();
  const mine = (listening = new AbortController());
  history.replaceState(null, '', `#job=${id}`);
  job = null;
  byId('frames').replaceChildren();
  byId('finished').hidden = true;
  byId('player').removeAttribute('src');
  while (!mine.signal.aborted) {
    try {
      show(await call(`${JOBS}/${id}`));
      if (OVER.includes(job.status)) break;
      await listen(id, mine.signal);
    } catch (problem) {
      if (mine.signal.aborted) return;
      if (!job) return lost(problem);
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
  if (!mine.signal.aborted) showEarlier();
}

/** The job's events: each holds the job as it is. */
async function listen(id, signal) {
  const response = await fetch(`${JOBS}/${id}/stream`, { headers: { accept: 'text/event-stream' }, signal });
  if (!response.ok) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith('data: {')) continue;
      const chunk = JSON.parse(line.slice('data: '.length));
      if (chunk.type === 'data-vsl-progress') show({ ...job, ...chunk.data });
      if (chunk.type === 'finish' || chunk.type === 'error') return;
    }
  }
}

function lost(problem) {
  history.replaceState(null, '', location.pathname);
  complain(problem);
}

/** Bring the page in line with a job. */
function show(told) {
  job = told;
  byId('nothing').hidden = true;
  byId('job').hidden = false;
  byId('job-title').textContent = job.title ?? 'A video';
  byId('job-state').textContent = job.status === 'running' ? `${job.percent} %` : STATES[job.status];
  byId('progress').value = job.percent;
  byId('progress').hidden = OVER.includes(job.status);
  byId('stages').replaceChildren(...STAGES.map(([, name, kinds]) => stageRow(name, kinds)));
  byId('cancel').hidden = OVER.includes(job.status);
  byId('remove').hidden = !OVER.includes(job.status);
  showError();
  showFrames();
  if (job.result?.files?.video) showVideo();
  byId('edit-foot').hidden = !editable();
}

function stageRow(name, kinds) {
  const steps = (job.steps ?? []).filter((step) => kinds.includes(step.name.split('/')[0]));
  const done = steps.filter((step) => step.status === 'done').length;
  const failed = steps.some((step) => step.status === 'failed');
  const count = kinds.includes('picture') || kinds.includes('narration') || kinds.includes('clip') ? job.frames?.length : 1;
  const state = failed ? 'failed' : count && done >= count ? 'done' : steps.length ? 'running' : 'waiting';
  const told = state === 'running' && count > 1 ? `${name}, ${done} of ${count}` : name;
  const words = { failed: 'failed', done: 'done', running: 'under way', waiting: 'to come' }[state];
  return element(
    'li',
    { 'data-state': state },
    element('span', { class: 'mark', 'aria-hidden': 'true' }),
    told,
    element('span', { class: 'visually-hidden' }, `: ${words}`),
  );
}

function showError() {
  const box = byId('job-problem');
  box.hidden = job.status !== 'failed';
  if (box.hidden) return;
  const { stage, frame, detail, code } = job.error ?? {};
  const where = frame === undefined ? stage : `${stage}, frame ${frame + 1}`;
  box.querySelector('.problem-title').textContent = `Failed at: ${where ?? 'an unknown step'}`;
  box.querySelector('.problem-detail').textContent = `${detail ?? 'The server did not say why.'} (${code ?? 'unknown'})`;
}

function showFrames() {
  const list = byId('frames');
  const frames = job.frames ?? [];
  while (list.children.length > frames.length) list.lastChild.remove();
  frames.forEach((frame, index) => {
    if (!list.children[index]) list.append(byId('frame-template').content.firstElementChild.cloneNode(true));
    showFrame(list.children[index], frame, index);
  });
}

function showFrame(row, frame, index) {
  row.querySelector('.frame-beat').textContent = `${index + 1} · ${frame.beat}`;
  const words = row.querySelector('.frame-text');
  if (editable() && !words.querySelector('textarea')) {
    const box = element('textarea', { rows: '3', dir: 'auto', 'aria-label': `Narration of frame ${index + 1}` });
    box.value = frame.narration;
    words.replaceChildren(box);
  } else if (!editable()) words.textContent = frame.narration;
  const picture = row.querySelector('img');
  if (frame.picture && picture.hidden) {
    picture.src = frame.picture.url;
    picture.alt = frame.alt;
    picture.hidden = false;
    row.querySelector('.frame-wait').hidden = true;
  }
  if (editable()) row.querySelector('.frame-wait').textContent = frame.alt;
  const sound = row.querySelector('audio');
  if (frame.audio && sound.hidden) {
    sound.src = frame.audio.url;
    sound.setAttribute('aria-label', `Narration of frame ${index + 1}`);
    sound.hidden = false;
  }
}

function showVideo() {
  const { files, duration_s: seconds, language } = job.result;
  const player = byId('player');
  byId('finished').hidden = false;
  if (!player.getAttribute('src')) {
    // A track must come from this page's own origin, unless the file's says otherwise.
    player.crossOrigin = new URL(files.video.url, location.href).origin === location.origin ? null : 'anonymous';
    player.src = files.video.url;
    player.poster = files.poster.url;
    const track = { kind: 'captions', srclang: language, label: 'Captions', src: files.captions_vtt.url, default: '' };
    player.replaceChildren(element('track', track));
  }
  byId('downloads').replaceChildren(
    ...DOWNLOADS.filter(([name]) => files[name]).map(([name, label]) =>
      element('li', {}, element('a', { href: `/api/assets/${files[name].asset_id}?download=${name}.${files[name].extension}` }, label)),
    ),
  );
  const facts = {
    Length: `${seconds.toFixed(1)} s`,
    Cost: inDollars(job.cost_usd),
    'Steps reused': `${job.steps.filter((step) => step.cached).length} of ${job.steps.length}`,
    Loudness: job.result.lufs === null ? 'silence' : `${job.result.lufs} LUFS`,
  };
  byId('job-facts').replaceChildren(
    ...Object.entries(facts).map(([name, value]) => element('div', {}, element('dt', {}, name), element('dd', {}, value))),
  );
}

async function showEarlier() {
  const told = await call(JOBS).catch(() => null);
  const jobs = told?.jobs ?? [];
  byId('earlier').hidden = !jobs.length;
  byId('earlier-list').replaceChildren(
    ...jobs.map((each) =>
      element(
        'li',
        {},
        element('a', { href: `#job=${each.id}`, dir: 'auto' }, each.title ?? each.product ?? 'A video'),
        element('span', {}, STATES[each.status]),
      ),
    ),
  );
}

function inDollars(cost) {
  if (cost === null || cost === undefined) return 'unknown';
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

/** The script in view, as it was edited, with everything else of the brief it was written for. */
function editedBrief() {
  const texts = [...document.querySelectorAll('.frame textarea')].map((box) => box.value.trim());
  const frames = job.frames.map(({ beat, on_screen, image_prompt, alt }, index) => ({
    beat,
    narration: texts[index],
    on_screen,
    image_prompt,
    alt,
  }));
  return { ...briefOf(), script: { title: job.title, frames } };
}

async function act(path, method) {
  try {
    return await call(`${JOBS}/${job.id}${path}`, { method });
  } catch (problem) {
    complain(problem);
    return undefined;
  }
}

byId('brief').addEventListener('submit', (event) => {
  event.preventDefault();
  start(briefOf());
});
byId('write').addEventListener('click', () => start({ ...briefOf(), stop_after: 'script' }));
byId('estimate').addEventListener('click', estimate);
byId('make-edited').addEventListener('click', () => start(editedBrief()));
byId('cancel').addEventListener('click', () => act('/cancel', 'POST'));
byId('retry').addEventListener('click', async () => {
  if (await act('/retry', 'POST')) follow(job.id);
});
byId('remove').addEventListener('click', async () => {
  if ((await act('', 'DELETE')) === undefined) return;
  listening?.abort();
  history.replaceState(null, '', location.pathname);
  byId('job').hidden = true;
  byId('nothing').hidden = false;
  showEarlier();
});
byId('sample').addEventListener('click', () => {
  for (const [id, value] of Object.entries(SAMPLE)) byId(id).value = value;
  byId('make').focus();
});
function followAddress() {
  const id = new URLSearchParams(location.hash.slice(1)).get('job');
  if (id && id !== job?.id) follow(id);
}
addEventListener('hashchange', followAddress);

followAddress();
showEarlier();
