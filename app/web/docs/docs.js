// Shows /openapi.json with Swagger UI, for reading only, in the colours that the browser asks for.

const dark = matchMedia("(prefers-color-scheme: dark)");

function setColours() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

dark.addEventListener("change", setColours);
setColours();

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  supportedSubmitMethods: [],
  validatorUrl: null,
  showCommonExtensions: true,
  defaultModelRendering: "model",
  defaultModelExpandDepth: 3,
  defaultModelsExpandDepth: -1,
});
