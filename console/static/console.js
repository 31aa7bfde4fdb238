// Keeps the fleet current by polling one fragment. The server sets the pace, an ETag saves the rest.
"use strict";
(() => {
  const live = document.getElementById("live");
  const stale = document.getElementById("stale");
  let etag = "";
  let seenAt = Date.now();
  let failures = 0;

  const show = (html) => {
    const focused = document.activeElement && live.contains(document.activeElement)
      ? document.activeElement.getAttribute("href") : null;
    const table = live.querySelector(".scroll");
    const left = table ? table.scrollLeft : 0;
    live.innerHTML = html;
    const next = live.querySelector(".scroll");
    if (next) next.scrollLeft = left;
    if (focused) {
      for (const link of live.querySelectorAll("a")) {
        if (link.getAttribute("href") === focused) { link.focus(); break; }
      }
    }
  };

  const poll = async () => {
    let wait = Number(live.dataset.pollMs) || 5000;
    if (!document.hidden) {
      try {
        const answer = await fetch(live.dataset.src, {
          headers: etag ? { "If-None-Match": etag } : {},
          cache: "no-store",
        });
        if (answer.status === 401) { location.reload(); return; }
        if (answer.status === 200) {
          etag = answer.headers.get("ETag") || "";
          live.dataset.pollMs = answer.headers.get("X-Poll-Ms") || live.dataset.pollMs;
          show(await answer.text());
        } else if (answer.status !== 304) {
          throw new Error(String(answer.status));
        }
        failures = 0;
        seenAt = Date.now();
        stale.hidden = true;
      } catch {
        failures += 1;
        wait = Math.min(30000, wait * 2 ** failures);
        stale.textContent = `Data is ${Math.round((Date.now() - seenAt) / 1000)} s old: the server does not answer.`;
        stale.hidden = false;
      }
    }
    setTimeout(poll, wait);
  };
  setTimeout(poll, Number(live.dataset.pollMs) || 5000);
})();
