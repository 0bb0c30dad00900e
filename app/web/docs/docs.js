// Shows /openapi.json. Everything is set as text: nothing in the document can become markup.

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function resolve(api, schema) {
  const name = schema.$ref?.split("/").pop();
  return name ? api.components.schemas[name] : schema;
}

function typeName(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf) return schema.anyOf.map(typeName).join(" | ");
  if (schema.type === "array") return `${typeName(schema.items ?? {})}[]`;
  return schema.type ?? "anything";
}

function limits(schema) {
  const parts = schema.anyOf ?? [schema];
  return parts
    .flatMap((part) => [
      part.minimum !== undefined && `from ${part.minimum}`,
      part.maximum !== undefined && `to ${part.maximum}`,
      part.maxLength !== undefined && `up to ${part.maxLength} characters`,
      part.pattern && `like ${part.pattern}`,
      part.description,
    ])
    .filter(Boolean)
    .join(", ");
}

function field(name, schema, required) {
  const detail = [typeName(schema), limits(schema), required ? "" : "may be left out"].filter(Boolean).join(" · ");
  return [element("dt", "", element("code", name)), element("dd", detail)];
}

function fields(api, reference, seen = new Set()) {
  const schema = resolve(api, reference);
  const list = element("dl");
  const nested = [];
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    list.append(...field(name, property, schema.required?.includes(name)));
    const inner = [property, property.items, ...(property.anyOf ?? [])].find((one) => one?.$ref);
    if (inner && !seen.has(inner.$ref)) nested.push(inner.$ref);
  }
  const blocks = list.childElementCount ? [list] : [element("p", typeName(schema))];
  for (const $ref of nested) {
    seen.add($ref);
    blocks.push(element("h2", typeName({ $ref })), ...fields(api, { $ref }, seen));
  }
  return blocks;
}

function responses(api, operation) {
  const blocks = [element("h2", "Answers")];
  const failures = element("dl");
  for (const [status, response] of Object.entries(operation.responses)) {
    const [[type, media]] = Object.entries(response.content);
    if (status < 300) {
      blocks.push(element("p", `${status}, ${type}`), ...fields(api, media.schema));
    } else {
      failures.append(element("dt", status), element("dd", response.description.replaceAll("`", "")));
    }
  }
  return [...blocks, element("h2", "Failures"), failures];
}

function endpoint(api, method, path, operation) {
  const summary = element("summary", "", element("code", `${method.toUpperCase()} ${path}`));
  summary.append(element("span", operation.summary));
  const details = element("details", "", summary, element("p", operation.description));
  details.id = operation.operationId;
  if (operation.parameters.length) {
    const list = element("dl");
    for (const one of operation.parameters) list.append(...field(one.name, one.schema, one.required));
    details.append(element("h2", "Parameters"), list);
  }
  for (const [type, media] of Object.entries(operation.requestBody?.content ?? {})) {
    details.append(element("h2", `Body, ${type}`), ...fields(api, media.schema));
  }
  details.append(...responses(api, operation));
  details.open = location.hash === `#${details.id}`;
  return details;
}

async function show() {
  const main = document.getElementById("endpoints");
  try {
    const response = await fetch("/openapi.json");
    if (!response.ok) throw new Error(`status ${response.status}`);
    const api = await response.json();
    const intro = element("p", api.info.description.replaceAll("`", ""));
    intro.className = "intro";
    main.replaceChildren(intro);
    for (const [path, operations] of Object.entries(api.paths)) {
      for (const [method, operation] of Object.entries(operations)) {
        main.append(endpoint(api, method, path, operation));
      }
    }
  } catch (error) {
    main.replaceChildren(element("p", `The description could not be loaded: ${error.message}. Load the page again.`));
  }
}

show();
