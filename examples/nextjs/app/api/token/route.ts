import { AccessToken } from "livekit-server-sdk";

import { readFields } from "../../../lib/requests";
import { personFor } from "../../../lib/rooms";

/** A token with which the person joins the room. It names no agent: `/api/agent` brings that. */
export async function POST(request: Request): Promise<Response> {
  const fields = await readFields(request);
  if (fields instanceof Response) return fields;
  const { room } = fields as { room?: string };
  const person = await personFor(request, room);
  if (person instanceof Response) return person;
  // Long enough to join; LiveKit renews it for whoever is in.
  const token = new AccessToken(process.env.LIVEKIT_API_KEY, process.env.LIVEKIT_API_SECRET, {
    identity: person,
    ttl: "10m",
  });
  token.addGrant({ roomJoin: true, room });
  return Response.json({ serverUrl: process.env.LIVEKIT_URL, participantToken: await token.toJwt() });
}
