import { timingSafeEqual } from "node:crypto";

import { readFields, refuseForeign } from "../../lib/requests";
import { signIn } from "../../lib/session";

/** Your app's sign-in: here names and passwords come from the environment, as `alice:one,bob:two`. */
export async function POST(request: Request): Promise<Response> {
  const refused = refuseForeign(request);
  if (refused) return refused;
  const fields = await readFields(request);
  if (fields instanceof Response) return fields;
  const { name, password } = fields;
  if (typeof name !== "string" || typeof password !== "string") {
    return Response.json({ code: "malformed" }, { status: 400 });
  }
  const expected = Buffer.from(people().get(name) ?? "");
  const given = Buffer.from(password);
  if (!name || !expected.length || expected.length !== given.length || !timingSafeEqual(expected, given)) {
    return Response.json({ code: "unknown_name_or_password" }, { status: 401 });
  }
  await signIn(name);
  return new Response(null, { status: 204 });
}

function people(): Map<string, string> {
  const pairs = (process.env.PEOPLE ?? "").split(",").filter((pair) => pair.includes(":"));
  // A password may have a colon, a name may not.
  return new Map(pairs.map((pair) => [pair.split(":", 1)[0], pair.slice(pair.indexOf(":") + 1)]));
}
