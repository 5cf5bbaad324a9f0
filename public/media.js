/**
 * Pictures and speech on the page: what an answer is to hold besides text, how its files are shown, and a gallery of
 * one's own. What a server says enters the page as text nodes and addresses, never as HTML.
 */

const ASSETS = '/api/assets';
const PAGE = 24;
/** The names of lib/media/styles.py. */
export const STYLES = [
  'horizon',
  'papercut',
  'bauhaus',
  'aurora',
  'halftone',
  'contour',
  'skyline',
  'facets',
  'botanical',
  'orbit',
  'ribbon',
  'waves',
  'stilllife',
];

const byId = (id) => document.getElementById(id);
const chosen = () => [...document.querySelectorAll('[name="output"]:checked')].map((box) => box.value);

/** What the body of a request says of its outputs: nothing, where that is text alone. */
export function outputsOf() {
  const outputs = chosen();
  if (byId('outputs').hidden || outputs.join() === 'text') return {};
  const [style, voice] = [byId('style').value, byId('voice').value];
  return {
    outputs,
    ...(outputs.includes('image') && style ? { image: { style } } : {}),
    ...(outputs.includes('speech') && voice ? { speech: { voice_id: voice } } : {}),
  };
}

/** Offer what is on: `parts` are those of /api/health. */
export function offerOutputs(parts) {
  const on = (name) => parts.some((part) => part.name === name && part.on);
  if (!on('supabase')) return;
  byId('outputs').hidden = false;
  for (const [output, part] of [
    ['image', 'images'],
    ['speech', 'speech'],
  ]) {
    byId(`output-${output}`).parentElement.hidden = !on(part);
  }
  byId('style').append(...STYLES.map((style) => new Option(style, style)));
  byId('outputs').addEventListener('change', showChoices);
  byId('show-gallery').addEventListener('click', openGallery);
  byId('close-gallery').addEventListener('click', () => byId('gallery').close());
  byId('more').addEventListener('click', showMore);
  byId('gallery').addEventListener('click', (event) => {
    if (event.target === byId('gallery')) byId('gallery').close();
  });
}

/** At least one output stays chosen, and each brings its choice with it. */
function showChoices({ target }) {
  if (!chosen().length) target.checked = true;
  byId('style').hidden = !chosen().includes('image');
  byId('voice').hidden = !chosen().includes('speech');
  if (chosen().includes('speech')) voicesLoaded ??= loadVoices();
}

let voicesLoaded = null;

async function loadVoices() {
  const { voices = [] } = (await getJson('/api/voices')) ?? {};
  byId('voice').append(
    ...voices.map(({ id, name, languages }) => new Option(languages.length ? `${name} (${languages.join(', ')})` : name, id)),
  );
}

/** A picture or a player, with a link that saves it. */
export function fileElement({ url, mediaType }, label) {
  const isPicture = mediaType.startsWith('image/');
  const shown = element(isPicture ? 'img' : 'audio', {
    src: url,
    ...(isPicture ? { alt: label } : { controls: '', preload: 'metadata', 'aria-label': label }),
  });
  const name = `${isPicture ? 'picture' : 'speech'}.${EXTENSIONS[mediaType] ?? 'bin'}`;
  const save = element('a', { href: saving(url, name), download: name, class: 'save' }, 'Download');
  return element('figure', { class: isPicture ? 'picture' : 'speech' }, shown, save);
}

const EXTENSIONS = {
  'image/jpeg': 'jpg',
  'image/png': 'png',
  'image/webp': 'webp',
  'audio/mpeg': 'mp3',
  'audio/wav': 'wav',
  'audio/ogg': 'ogg',
};

/** Storage says `attachment` where it is asked to: across origins, `download` alone would open it. */
function saving(url, name) {
  const address = new URL(url, location.href);
  address.searchParams.set('download', name);
  return address.href;
}

let following = null;

async function openGallery() {
  following = null;
  byId('gallery-list').replaceChildren();
  byId('gallery').showModal();
  await showMore();
}

async function showMore() {
  const query = new URLSearchParams({ limit: PAGE, ...(following ? { cursor: following } : {}) });
  const page = await getJson(`${ASSETS}?${query}`);
  following = page?.next_cursor ?? null;
  byId('more').hidden = !following;
  const shown = (page?.assets ?? []).filter(({ kind }) => kind === 'image' || kind === 'audio');
  byId('gallery-list').append(...shown.map(galleryItem));
  const none = !byId('gallery-list').children.length;
  byId('gallery-note').textContent = page ? (none ? 'Nothing yet: ask for a picture or speech.' : '') : 'Not available now.';
}

function galleryItem({ id, kind, url, content_type: mediaType, name, created_at: at }) {
  const label = name ?? (kind === 'image' ? 'Picture' : 'Speech');
  const item = element('li', {}, fileElement({ url, mediaType }, label));
  const when = at ? new Date(at).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' }) : '';
  const remove = element('button', { type: 'button', class: 'quiet', 'aria-label': `Delete ${label}` }, 'Delete');
  remove.addEventListener('click', async () => {
    const answer = await fetch(`${ASSETS}/${id}`, { method: 'DELETE' });
    if (answer.ok) item.remove();
    else byId('gallery-note').textContent = 'It could not be deleted.';
  });
  const caption = element('figcaption', {}, element('span', {}, label), element('time', {}, when));
  item.firstChild.firstChild.after(caption);
  item.firstChild.append(remove);
  return item;
}

async function getJson(url) {
  const response = await fetch(url).catch(() => null);
  return response?.ok ? response.json().catch(() => null) : null;
}

function element(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
