/*
 * closedloop's tracker: keeps the row of this tab's session up to date and fills the hidden fields of every form.
 *
 * ES5 only. Nothing here may throw into the page: whatever the page or the browser calls goes through `safe`.
 * What is sent is a list of page views, each with all that is known of it so far; a fact has its place in its
 * view, so the collector may be told the same thing twice. Times are the browser's, and the collector corrects
 * them by `d`, the moment of sending. What is read out of addresses and cookies is the collector's business.
 * The keys are those of docs/reference/collect.md; %SCRIPT% and %COLLECT% are put in by the server.
 */
(function () {
  var tag = document.currentScript || document.querySelector('script[src*="%SCRIPT%"]');
  if (window.tildaAnalytics || !tag) return;

  var address = tag.src.replace(/[^\/]*$/, '%COLLECT%');
  var session, visitor, jar, view, touches, shown, asked, push, said, gone, path, wait, timer;
  var known = {}, calls = [], unsent = [];

  function safe(work) {
    return function (event) { try { return work(event); } catch (e) {} };
  }
  function on(target, type, work) { target.addEventListener(type, safe(work), true); }
  function option(name) { return tag.getAttribute('data-' + name); }

  /* Storage may be forbidden, and then throws when it is touched. */
  function stored(name, tab, value) {
    try {
      var area = window[tab ? 'sessionStorage' : 'localStorage'];
      if (value) area.setItem(name, value);
      else if (value == 0) area.removeItem(name);
      else return area.getItem(name);
    } catch (e) {}
  }
  function cookie(name) { return (jar.match('(?:^|; ?)' + name + '=([^;]+)') || [])[1]; }
  function random() {
    var bytes = crypto.getRandomValues(new Uint8Array(36)), at = 0;
    return '10000000-1000-4000-8000-100000000000'.replace(/[018]/g, function (digit) {
      return (digit ^ bytes[at++] & 15 >> digit / 4).toString(16);
    });
  }

  /* Tilda's banner: t_cookiesConsentGiven only says "answered"; what was allowed stands in the categories. */
  function allowed() {
    return !(option('dnt') && (navigator.doNotTrack > 0 || navigator.globalPrivacyControl)) && (said ? said > 1 :
      option('consent') != 'required' || /analytics/.test(cookie('t_cookiesCategories')));
  }

  /* ---- who it is: Metrica may come late, never, or as a blocker's stand-in that answers null ------------- */
  function know(name, value) {
    if (!value || known[name] == value) return;
    known[name] = value;
    plan();
    fill();
  }
  function knowClient(text) { know('ym_uid', (/\d{5,20}/.exec(text) || [])[0]); }
  function look() {
    var ym = window.ym, queue = ym && ym.a, counter = window.mainMetrikaId || queue && queue[0] && queue[0][0], next;
    if (!known.ym_uid) knowClient(cookie('_ym_uid') || stored('_ym_uid'));
    ['_ga', '_ga_\\w+', '_fbp', '_fbc'].forEach(function (name) { know(name.slice(0, 4), cookie(name)); });
    if (counter && ym && !asked) {
      asked = 1;
      ym(counter, 'getClientID', safe(knowClient));
    }
    /* The library puts its own `push` over ours. */
    if (queue && queue.push != push) {
      queue.forEach(goal);
      next = queue.push;
      queue.push = push = function (call) {
        safe(goal)(call);
        return next.apply(queue, arguments);
      };
    }
  }
  function goal(call) {
    if (call[1] != 'reachGoal' || calls.indexOf(call) >= 0) return;
    calls.push(call);
    view.g.push([call[2], Date.now(), call[3]]);
    plan();
  }

  /* ---- forms and links ----------------------------------------------------------------------------------- */
  function fill() {
    if (!session) return;
    var code = 'ta_' + session.replace(/\W/g, '').slice(0, 12);
    each('form', function (form) {
      var values = { session_id: session, ym_uid: known.ym_uid }, name, input;
      each('input[name=session_id i],input[name=ym_uid i]', function (input) {
        name = input.name.toLowerCase();
        if (values[name] && input.value != values[name]) input.value = values[name];
        values[name] = 0;
      }, form);
      /* A form that is still being read may have its own field further down. */
      if (document.readyState[0] == 'l' || !/post/i.test(form.getAttribute('method')) ||
        new URL(form.getAttribute('action') || '', location).host != location.host) return;
      for (name in values) if (values[name]) {
        input = document.createElement('input');
        input.type = 'hidden';
        input.name = name;
        input.value = values[name];
        form.appendChild(input);
      }
    });
    each('a[href*=ta_code]', function (link) {
      know('ta_code', code);
      link.href = link.getAttribute('href').replace(/(\{|%7B)ta_code(\}|%7D)/i, code);
    });
  }
  function each(selector, work, root) { [].forEach.call((root || document).querySelectorAll(selector), safe(work)); }

  /* ---- page views ---------------------------------------------------------------------------------------- */
  function open(url, referrer, again) {
    if (view) unsent.push(close());
    view = { p: random().slice(0, 13), u: url, r: referrer, a: Date.now(), n: again, s: [], g: [], f: [] };
    touches = touches || safe(JSON.parse)(stored('ta_touches')) || [view];
    if (!again && (/[?&](utm_|\w*clid=|[gw]braid|rb_cl)/.test(url) ||
      (referrer || url).split('/')[2] != location.host)) touches[1] = view;
    stored('ta_touches', 0, JSON.stringify(touches));
    path = location.pathname;
    shown = document.hidden ? 0 : Date.now();
    look();
    /* Metrica often answers before this is over, and the first hit carries it all. */
    plan(250);
  }
  function close() {
    if (shown) view.s.push(Date.now() - shown);
    shown = 0;
    return view;
  }
  function reopen() { open(location.href, location.href, 1); }
  function moved() { if (session && location.pathname != path) reopen(); }
  function done(form) {
    view.f.push([form.getAttribute('id'), Date.now(), form.tildaTranId]);
    send();
  }

  /* ---- sending ------------------------------------------------------------------------------------------- */
  function send(leaving) {
    if (!session) return;
    timer = clearTimeout(timer);
    view.t = document.title;
    var views = unsent.length, body = JSON.stringify({
      s: option('site') || 'default', i: session, v: visitor, k: known, d: Date.now(), b: navigator.webdriver, x: gone,
      f: touches, h: unsent.concat(view)
    });
    function beacon() { navigator.sendBeacon(address, body); }
    try {
      if (leaving && !('keepalive' in Request.prototype)) throw 0;
      fetch(address, { method: 'POST', body: body, keepalive: true }).then(function (answer) {
        if (answer.status > 428) throw 0;
        wait = 0;
        unsent.splice(0, views);
        if (session && shown) keep(unsent);
      })['catch'](safe(function () {
        plan(wait = Math.min(wait * 2 || 1e3, 6e4));
        beacon();
      }));
    } catch (e) { beacon(); }
  }
  function plan(pause) { timer = timer || setTimeout(safe(send), pause, 0); }
  function keep(views) { stored('ta_unsent', 1, JSON.stringify(views)); }
  function leave() {
    if (!shown) return;
    check();
    keep(unsent.concat(close()));
    send(1);
  }

  /* ---- the life of the page ------------------------------------------------------------------------------ */
  function start() {
    session = stored('ta_session_id', 1) || random();
    visitor = stored('ta_user_id', 1) || cookie('ta_user_id') || stored('ta_user_id') || random();
    stored('ta_session_id', 1, session);
    stored('ta_user_id', 1, visitor);
    stored('ta_user_id', 0, visitor);
    unsent = safe(JSON.parse)(stored('ta_unsent', 1)) || [];
    /* The address as the browser asked for it: a script may have cleaned the one in the bar. */
    var entry = safe(function () { return performance.getEntriesByType('navigation')[0]; })() || {};
    open(entry.name || location.href, document.referrer, /^[rb]/.test(entry.type));
  }
  function stop() {
    gone = 1;
    send();
    gone = 0;
    ['session_id', 'user_id', 'touches', 'unsent'].forEach(function (name) {
      stored('ta_' + name, 0, 0);
      stored('ta_' + name, 1, 0);
    });
    session = view = touches = 0;
  }
  function check() {
    /* Read once: each time costs a question to another process. */
    jar = document.cookie;
    if (!allowed()) return session && stop();
    if (session) look();
    else start();
    fill();
  }
  function tick(pause) {
    safe(check)();
    setTimeout(tick, pause, Math.min(pause * 2, 8e3));
  }
  function begin() {
    if (document.prerendering) return on(document, 'prerenderingchange', begin);
    var pushState = history.pushState;
    history.pushState = function () {
      var answer = pushState.apply(history, arguments);
      safe(moved)();
      return answer;
    };
    on(window, 'popstate', moved);
    /* Before the page reads its form, and after it has acted: a banner may have been answered. */
    on(window, 'click', function () { check(); setTimeout(safe(check), 300); });
    on(window, 'submit', check);
    on(window, 'online', function () { send(); });
    on(window, 'pagehide', leave);
    on(window, 'pageshow', function (event) { if (event.persisted && session) reopen(); });
    on(document, 'visibilitychange', function () {
      if (document.hidden) leave();
      else shown = Date.now();
    });
    on(document, 'tildaform:aftersuccess', function (event) { done(event.target); });
    window.addEventListener('submit', safe(function (event) { if (!event.defaultPrevented) done(event.target); }));
    new MutationObserver(safe(fill)).observe(document, { childList: true, subtree: true });
    tick(250);
  }
  window.tildaAnalytics = {
    consent: safe(function (yes) {
      stored('ta_consent', 0, said = yes ? 2 : 1);
      check();
    })
  };
  said = stored('ta_consent');
  safe(begin)();
})();
