import { refuseForeign } from "./requests";
import { signedIn } from "./session";

/**
 * Your app's rule: here the rooms of alice are `alice.<anything>`. The first dot ends the name, so that a room has
 * one owner: a person with a dot in the name has none.
 */
function mayEnter(person: string, room: string): boolean {
  const dot = room.indexOf(".");
  return dot > 0 && room.slice(0, dot) === person && room.length > dot + 1;
}

/** The person who is signed in and may enter the room, or the answer that says why not. */
export async function personFor(request: Request, room: unknown): Promise<string | Response> {
  const refused = refuseForeign(request);
  if (refused) return refused;
  const person = await signedIn();
  if (person === null) return Response.json({ code: "sign_in_first" }, { status: 401 });
  if (typeof room !== "string") return Response.json({ code: "no_room" }, { status: 422 });
  if (!mayEnter(person, room)) return Response.json({ code: "not_your_room" }, { status: 403 });
  return person;
}
