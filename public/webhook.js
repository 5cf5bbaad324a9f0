/**
 * "Try the deploy webhook", for operators: POST /api/deploy_webhook?test=1 sends a sample the whole way as a dry run and
 * says which step would fail and what would be opened. Texts are put in as texts alone.
 */

const byId = (id) => document.getElementById(id);
const [parts, button, result] = ['parts', 'try-webhook', 'webhook-result'].map(byId);

/** Show the button to whom it is for; asked when the menu opens, since who the visitor is may have changed. */
async function offer() {
  if (!parts.open) return;
  const response = await fetch('/api/session').catch(() => null);
  const { role } = (await response?.json().catch(() => null)) ?? {};
  button.hidden = role !== 'operator';
  result.hidden ||= button.hidden;
}

async function tryIt() {
  button.disabled = true;
  const told = await fetch('/api/deploy_webhook?test=1', { method: 'POST' })
    .then((response) => response.json())
    .catch(() => ({ detail: 'The server could not be reached. Try again.' }));
  button.disabled = false;
  const lines = told.steps?.map(({ step, ok, detail }) => `${ok ? 'ok' : 'off'} ${step}${detail ? `: ${detail}` : ''}`);
  const would = told.would && `It would ${told.would.action}: ${told.would.title}`;
  const texts = [...(lines ?? [told.detail ?? 'The server did not say why.']), ...(would ? [would] : [])];
  result.replaceChildren(
    ...texts.map((text) => {
      const line = document.createElement('p');
      line.textContent = text;
      return line;
    }),
  );
  result.hidden = false;
}

parts.addEventListener('toggle', offer);
button.addEventListener('click', tryIt);
