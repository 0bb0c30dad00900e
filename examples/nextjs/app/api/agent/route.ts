import { callService } from "../../../lib/agent-service";
import { readFields } from "../../../lib/requests";
import { personFor } from "../../../lib/rooms";

/** Answers once the agent does; the agent is told who calls. */
export async function POST(request: Request): Promise<Response> {
  const fields = await readFields(request);
  if (fields instanceof Response) return fields;
  const { room } = fields as { room?: string };
  const person = await personFor(request, room);
  if (person instanceof Response) return person;
  const granted = await callService<{ reused: boolean }>("POST", "dispatch-agent", {
    roomName: room,
    metadata: { person },
    wait: "ready",
  });
  return granted instanceof Response ? granted : Response.json({ reused: granted.reused });
}

export async function DELETE(request: Request): Promise<Response> {
  const room = new URL(request.url).searchParams.get("room");
  const person = await personFor(request, room);
  if (person instanceof Response) return person;
  const query = new URLSearchParams({ roomName: room ?? "" });
  const ended = await callService<object>("DELETE", `dispatch-agent?${query}`);
  return ended instanceof Response ? ended : new Response(null, { status: 204 });
}
