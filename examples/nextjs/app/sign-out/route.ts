import { refuseForeign } from "../../lib/requests";
import { signOut } from "../../lib/session";

export async function POST(request: Request): Promise<Response> {
  const refused = refuseForeign(request);
  if (refused) return refused;
  await signOut();
  return new Response(null, { status: 204 });
}
