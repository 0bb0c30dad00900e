// What every route that changes something asks of a request.

/**
 * The answer to a page of another site, or null. Such a page can send forms here with the person's cookie, or sign
 * the person in as somebody else. Browsers say where a page is from; other programs, such as curl, say nothing.
 */
export function refuseForeign(request: Request): Response | null {
  const origin = request.headers.get("Origin");
  if (origin === null) return null;
  if (URL.canParse(origin) && new URL(origin).host === request.headers.get("Host")) return null;
  return Response.json({ code: "foreign_origin" }, { status: 403 });
}

/** The fields of the body, which are of any type, or the answer that says why not. */
export async function readFields(request: Request): Promise<Record<string, unknown> | Response> {
  const body: unknown = await request.json().catch(() => null);
  if (typeof body === "object" && body !== null) return body as Record<string, unknown>;
  return Response.json({ code: "malformed" }, { status: 400 });
}
