// The TTL of each agent name, with what it costs and saves.

import { byId, cell, countdown, element } from "./dom.js";

/** Shows the TTLs of a beat; the table is made anew only if one has changed. */
export function showTtls(ttls) {
  const body = byId("ttls");
  const shown = JSON.stringify(ttls);
  if (body.dataset.shown === shown) return;
  body.dataset.shown = shown;
  body.replaceChildren(...ttls.map(row));
}

function row(ttl) {
  return element(
    "tr",
    { role: "row" },
    cell("Agent", ttl.agent),
    cell("TTL", countdown(ttl.ttlS * 1000), element("small", {}, ttl.source)),
    cell("Returns kept", ...returns(ttl)),
    cell("Idle", `${Math.round(ttl.idleS / 60).toLocaleString()} min`),
  );
}

function returns({ kept, lost }) {
  const all = kept + lost;
  if (!all) return ["–"];
  const share = element("small", {}, `${kept.toLocaleString()} of ${all.toLocaleString()}`);
  return [`${Math.round((100 * kept) / all)} %`, share];
}
