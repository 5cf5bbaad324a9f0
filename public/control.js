/**
 * The form behind "Control": the split of callers over providers and the public runtime parameters, as they stand in
 * the Edge Config of `make run` (GET and PUT /local/items/{key}; GET /local/form says what may be chosen).
 *
 * The files may be edited by hand meanwhile, so what is applied goes into the items as they are then. What a parameter
 * may be is the server's word: a value that it refuses is marked where it was typed.
 */

const ITEMS = '/local/items';
const CONFIG = 'ai_config';
const BUCKETS = 1000;
const PERCENT = 10;
/** What goes with a provider's model, and means nothing to another's. */
const OF_THE_MODEL = ['candidate_model', 'candidate_reasoning_effort'];

const byId = (id) => document.getElementById(id);

/** @type {{experiment: string, models: {provider: string, model: string}[], parameters: object[]}} */
let form;
/** Names that the experiment's arms had when they were drawn: they are what is applied to. */
let drawn = [];

/** Show "Control" where there is something to edit. */
export async function openControl() {
  const response = await fetch('/local/form').catch(() => null);
  if (!response?.ok) return;
  form = await response.json();
  byId('parameters').replaceChildren(...form.parameters.map(parameterRow));
  byId('control').addEventListener('toggle', () => byId('control').open && load());
  byId('control-form').addEventListener('submit', (event) => {
    event.preventDefault();
    apply();
  });
  byId('control-form').addEventListener('input', onInput);
  byId('control').hidden = false;
}

/** Fill the form by the items as they are now, unless it holds what is not applied yet. */
async function load() {
  if (byId('control-form').dataset.changed) return;
  try {
    const items = await readItems();
    showSplit(armsOf(experimentOf(items)?.config));
    const config = items[CONFIG] ?? {};
    for (const { name } of form.parameters) inputOf(name).value = asText(config[name]);
    complain([]);
    say('');
  } catch (error) {
    say(error.message, true);
  }
}

async function apply() {
  complain([]);
  const problem = splitProblem();
  showSplitProblem(problem);
  const { values, errors } = typedParameters();
  complain(errors);
  if (problem || errors.length) return refuse();
  byId('apply').disabled = true;
  try {
    const items = await readItems();
    const found = drawn.length ? experimentOf(items) : null;
    if (drawn.length) found.config.rules = withSplit(found?.config, typedSplit());
    await write(CONFIG, withValues(items[CONFIG], values));
    if (found) await write(found.key, items[found.key]);
    delete byId('control-form').dataset.changed;
    say('Applied. The next answer follows.');
  } catch (error) {
    complain(error.errors ?? []);
    if (error.errors) return refuse();
    say(error.message, true);
  } finally {
    byId('apply').disabled = false;
  }
}

/** Nothing was written: take the reader to the first thing that is wrong. */
function refuse() {
  say('Nothing was changed.', true);
  byId('control-form').querySelector('[aria-invalid="true"]')?.focus();
}

function onInput(event) {
  byId('control-form').dataset.changed = 'yes';
  say('');
  event.target.removeAttribute('aria-invalid');
  if (event.target.closest('#split')) drawSplit();
  else errorOf(event.target.name).hidden = true;
}

async function readItems() {
  return (await asked(ITEMS)).json();
}

async function write(key, value) {
  const headers = { 'content-type': 'application/json' };
  await asked(`${ITEMS}/${encodeURIComponent(key)}`, { method: 'PUT', headers, body: JSON.stringify(value) });
}

async function asked(path, options) {
  const response = await fetch(path, options).catch(() => null);
  if (!response) throw new Error('The server could not be reached.');
  if (response.ok) return response;
  const told = (await response.json().catch(() => null)) ?? {};
  throw Object.assign(new Error(told.detail ?? `Error ${response.status}`), { errors: told.errors });
}

/** The experiment and the key of the item that holds it, if any does. */
function experimentOf(items) {
  for (const [key, item] of Object.entries(items)) {
    const configs = Array.isArray(item?.dynamic_configs) ? item.dynamic_configs : [];
    const config = configs.find(({ name }) => name === form.experiment);
    if (config) return { key, config };
  }
  return null;
}

/**
 * The arms, [{name, share in ‰, provider, model}], of an experiment whose rules are nothing but bounds on one bucket, in
 * order, up to the last bucket: `[340, 670, 1000]`. Null for any other, which is not for a form like this.
 */
function armsOf(config) {
  const arms = [];
  let from = 0;
  for (const { groupName, passPercentage, conditions, returnValue } of config?.rules ?? []) {
    const [{ type, operator, targetValue } = {}, ...others] = conditions ?? [];
    const isBound = type === 'user_bucket' && operator === 'lt' && others.length === 0 && passPercentage === 100;
    if (!isBound || !(targetValue >= from)) return null;
    arms.push({ name: groupName, share: targetValue - from, ...returnValue });
    from = targetValue;
  }
  return from === BUCKETS ? arms : null;
}

/** The experiment's rules with these shares, providers and models; `split` is by the arm's name. */
function withSplit(config, split) {
  if (armsOf(config)?.map(({ name }) => name).join('\n') !== drawn.join('\n')) {
    throw new Error('The experiment was edited meanwhile: close and open this to see it.');
  }
  let to = 0;
  return config.rules.map((rule) => {
    const { share, provider, model } = split.get(rule.groupName);
    to += share;
    const returnValue = { ...rule.returnValue, provider, model };
    if (provider !== rule.returnValue.provider) for (const name of OF_THE_MODEL) delete returnValue[name];
    return { ...rule, returnValue, conditions: [{ ...rule.conditions[0], targetValue: to }] };
  });
}

/** The item with what was typed; what was left empty is not in it. */
function withValues(config, values) {
  const changed = { ...config, ...values };
  return Object.fromEntries(Object.entries(changed).filter(([, value]) => value !== null));
}

function showSplit(arms) {
  drawn = (arms ?? []).map(({ name }) => name);
  byId('split').hidden = !arms;
  byId('split-strange').hidden = Boolean(arms);
  byId('split-strange').textContent =
    `${form.experiment} is missing, or more than shares of callers: edit its file by hand.`;
  byId('split-arms').replaceChildren(...(arms ?? []).map(armRow));
  byId('split-bar').replaceChildren(...(arms ?? []).map((_, index) => element('span', { 'data-arm': index % 4 })));
  drawSplit();
}

function armRow({ name, share, provider, model }, index) {
  const here = JSON.stringify([provider, model]);
  const choices = form.models.map((each) => JSON.stringify([each.provider, each.model]));
  const select = element('select', { 'aria-label': `Model of ${name}` });
  for (const choice of new Set([...choices, here])) {
    const [itsProvider, itsModel] = JSON.parse(choice);
    const off = choices.includes(choice) ? '' : ' (off)';
    select.append(element('option', { value: choice }, `${itsProvider} · ${itsModel}${off}`));
  }
  select.value = here;
  const input = element('input', {
    ...{ type: 'number', min: 0, max: 100, step: 'any', inputmode: 'decimal', required: '' },
    ...{ 'aria-label': `Share of ${name}, in percent`, 'aria-describedby': 'split-error' },
  });
  input.value = share / PERCENT;
  const swatch = element('span', { class: 'swatch', 'data-arm': index % 4, 'aria-hidden': 'true' });
  const percent = element('span', { class: 'percent' }, input, element('span', { 'aria-hidden': 'true' }, '%'));
  return element('li', { class: 'arm' }, swatch, element('span', { class: 'arm-name' }, name), percent, select);
}

/** The bar follows what is typed, and a complaint goes when its cause does. */
function drawSplit() {
  const shares = shareInputs().map(({ valueAsNumber }) => Math.max(valueAsNumber || 0, 0));
  [...byId('split-bar').children].forEach((part, index) => (part.style.flexGrow = shares[index]));
  if (!splitProblem()) showSplitProblem(null);
}

function shareInputs() {
  return [...byId('split-arms').querySelectorAll('input')];
}

/** Why the shares can't be applied, or null. They are kept in tenths of a percent: Statsig has a thousand buckets. */
function splitProblem() {
  const inputs = shareInputs();
  const isShare = ({ valueAsNumber: value }) => value >= 0 && value <= 100 && isWhole(value * PERCENT);
  const wrong = inputs.filter((input) => !isShare(input));
  if (wrong.length) return { message: 'A share is a number from 0 to 100, to a tenth at most.', inputs: wrong };
  const total = inputs.reduce((sum, { valueAsNumber }) => sum + Math.round(valueAsNumber * PERCENT), 0);
  if (!inputs.length || total === BUCKETS) return null;
  return { message: `The shares make ${total / PERCENT} %. They have to make 100 %.`, inputs };
}

function isWhole(number) {
  return Math.abs(number - Math.round(number)) < 1e-6;
}

function showSplitProblem(problem) {
  byId('split-error').textContent = problem?.message ?? '';
  byId('split-error').hidden = !problem;
  for (const input of shareInputs()) mark(input, problem?.inputs.includes(input));
}

function typedSplit() {
  const arms = [...byId('split-arms').children].map((row) => {
    const [provider, model] = JSON.parse(row.querySelector('select').value);
    return { share: Math.round(row.querySelector('input').valueAsNumber * PERCENT), provider, model };
  });
  return new Map(drawn.map((name, index) => [name, arms[index]]));
}

function parameterRow({ name, help, values, kind, default: usual }) {
  const id = `parameter-${name}`;
  const input = element('input', {
    ...{ id, name, type: 'text', autocomplete: 'off', spellcheck: 'false' },
    ...{ placeholder: usual ?? 'unset', 'aria-describedby': `${id}-help ${id}-error` },
    ...(kind === 'text' ? {} : { inputmode: kind === 'whole' ? 'numeric' : 'decimal' }),
  });
  return element(
    'div',
    { class: 'field', 'data-kind': kind },
    element('label', { for: id }, name),
    input,
    element('p', { id: `${id}-help`, class: 'field-note' }, `${help} `, element('span', {}, `(${values})`)),
    element('p', { id: `${id}-error`, class: 'field-error', hidden: '' }),
  );
}

/** What was typed, by name; null where nothing was. A text where a number belongs is an error of ours. */
function typedParameters() {
  const [values, errors] = [{}, []];
  for (const { name, kind, values: words } of form.parameters) {
    const typed = inputOf(name).value.trim();
    values[name] = typed === '' ? null : kind === 'text' ? typed : Number(typed);
    if (Number.isNaN(values[name])) errors.push({ path: name, message: `must be: ${words}` });
  }
  return { values, errors };
}

/** Mark the fields that these complain about; what has no field here is said below. */
function complain(errors) {
  for (const { name } of form.parameters) {
    const message = errors.find(({ path }) => path === name)?.message;
    errorOf(name).textContent = message ?? '';
    errorOf(name).hidden = !message;
    mark(inputOf(name), Boolean(message));
  }
}

function mark(input, isWrong) {
  if (isWrong) input.setAttribute('aria-invalid', 'true');
  else input.removeAttribute('aria-invalid');
}

function inputOf(name) {
  return byId(`parameter-${name}`);
}

function errorOf(name) {
  return byId(`parameter-${name}-error`);
}

function asText(value) {
  return value === undefined || value === null ? '' : String(value);
}

function say(message, isWrong = false) {
  byId('control-status').textContent = message;
  byId('control-status').classList.toggle('field-error', isWrong);
}

function element(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
