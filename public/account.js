/**
 * Who the visitor is: a guest or a user, with signing in, up and out. The session is a cookie that this page can't read;
 * all it knows is what GET /api/session says. Where accounts are off it stays out of the way.
 */

const SESSION = '/api/session';

const byId = (id) => document.getElementById(id);
const [account, form, problem, submit, signUp, signOut] = [
  'account',
  'account-form',
  'account-problem',
  'sign-in',
  'sign-up',
  'sign-out',
].map(byId);

/** Ask the API; returns the status and what it told. */
async function call(method, body) {
  const headers = body ? { 'content-type': 'application/json' } : {};
  try {
    const response = await fetch(SESSION, { method, headers, body: body && JSON.stringify(body) });
    return { status: response.status, told: (await response.json().catch(() => null)) ?? {} };
  } catch {
    return { status: 0, told: { detail: 'The server could not be reached. Try again.' } };
  }
}

/** Show the visitor as the API knows them; nobody is `{}`. */
function show({ kind, role, email }) {
  const isUser = kind === 'user';
  byId('account-name').textContent = isUser ? (email ?? 'Signed in') : 'Guest';
  byId('account-state').textContent = isUser
    ? `You are signed in${role === 'operator' ? ' as operator' : ''}.`
    : 'You are a guest. An account keeps what you make, wherever you sign in.';
  form.hidden = isUser;
  signOut.hidden = !isUser;
  account.hidden = false;
}

async function refresh() {
  let { status, told } = await call('GET');
  // A session that has ended was taken back with this answer: ask as whom we are now.
  if (status === 401 && told.code === 'session_expired') ({ status, told } = await call('GET'));
  if (status === 200) account.hidden = !told.accounts;
  if (status === 200 && told.accounts) show(told);
  if (status === 401) show({});
}

/** Sign in or up with what was typed. */
async function enter(method) {
  if (!form.reportValidity()) return;
  busy(true);
  const { status, told } = await call(method, { email: byId('email').value.trim(), password: byId('password').value });
  busy(false);
  if (status === 202) return complain('Almost there: confirm your address by the mail that was sent, then sign in.');
  if (status !== 200 && status !== 201) return complain(told.detail ?? 'The server did not say why.');
  complain('');
  form.reset();
  show(told);
  byId('account-state').focus();
}

async function leave() {
  busy(true);
  const { status, told } = await call('DELETE');
  busy(false);
  if (status !== 204) return complain(told.detail ?? 'The server did not say why.');
  complain('');
  await refresh();
  byId('account-state').focus();
}

function busy(is) {
  for (const button of [submit, signUp, signOut]) button.disabled = is;
}

function complain(text) {
  problem.textContent = text;
  problem.hidden = !text;
}

function close() {
  if (account.contains(document.activeElement)) account.firstElementChild.focus();
  account.open = false;
}

form.addEventListener('submit', (event) => {
  event.preventDefault();
  enter('POST');
});
signUp.addEventListener('click', () => enter('PUT'));
signOut.addEventListener('click', leave);
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && account.open && !event.isComposing) close();
});
document.addEventListener('click', (event) => {
  if (!account.contains(event.target)) account.open = false;
});

refresh();
