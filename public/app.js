document.getElementById('go').onclick = async () => {
  const r = await fetch('/api/generate', { method: 'POST', headers: { 'content-type': 'application/json', accept: 'text/plain' }, body: JSON.stringify({ prompt: document.getElementById('p').value }) });
  const reader = r.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) { const { done, value } = await reader.read(); if (done) break; document.getElementById('o').textContent += value; }
};
