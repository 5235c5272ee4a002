/* Watches live whether hits, forms and deals arrive. The key stays in this tab and goes to our own server only. */
(function () {
  'use strict';
  const said = document.body.dataset;
  const form = document.getElementById('key-form');
  const field = document.getElementById('key');
  const list = document.getElementById('steps');
  const line = document.getElementById('line');
  const problem = document.getElementById('problem');
  let timer;

  function ago(at) {
    const seconds = Math.max(0, Math.round((Date.now() - new Date(at)) / 1000));
    const words = new Intl.RelativeTimeFormat(said.language, { numeric: 'auto' });
    if (seconds < 90) return words.format(-seconds, 'second');
    if (seconds < 5400) return words.format(-Math.round(seconds / 60), 'minute');
    return words.format(-Math.round(seconds / 3600), 'hour');
  }

  function element(name, text) {
    const made = document.createElement(name);
    made.textContent = text;
    return made;
  }

  function show(steps) {
    list.replaceChildren(...steps.map(function (step) {
      const item = document.createElement('li');
      item.className = step.state;
      item.append(element('b', step.step), ': ' + step.said + ' ');
      if (step.at) item.append(element('time', ago(step.at)));
      if (step.mend) item.append(element('p', step.mend));
      return item;
    }));
  }

  async function look() {
    clearTimeout(timer);
    try {
      const answer = await fetch('api/v1/check?lang=' + said.language, { headers: { 'X-Webhook-Key': field.value } });
      if (answer.status === 401) {
        problem.textContent = said.expired;
        return;
      }
      if (!answer.ok) throw new Error(String(answer.status));
      problem.textContent = '';
      const told = await answer.json();
      line.textContent = line.textContent.replace(/data-site="[^"]*"/, 'data-site="' + told.site + '"');
      show(told.steps);
    } catch (error) {
      problem.textContent = said.offline;
    }
    timer = setTimeout(look, 2000);
  }

  form.addEventListener('submit', function (event) {
    event.preventDefault();
    look();
  });
  document.getElementById('copy').addEventListener('click', async function (event) {
    await navigator.clipboard.writeText(line.textContent);
    event.target.textContent = event.target.dataset.done;
  });
})();
