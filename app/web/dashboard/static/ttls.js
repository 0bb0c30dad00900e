// The TTL of each agent name, with what it costs and saves.

import { byId, cell, countdown, element, showRows } from "./dom.js";

/** Shows the TTLs of a beat. */
export function showTtls(ttls) {
  showRows(byId("ttls"), ttls, row);
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
