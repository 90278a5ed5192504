// Validates the HTML files that are named, and prints what is wrong with them, a line each.
import { readFileSync } from "node:fs";
import { HtmlValidate, StaticConfigLoader } from "html-validate";

const loader = new StaticConfigLoader({
  root: true,
  extends: ["html-validate:standard", "html-validate:a11y", "html-validate:document"],
  rules: {
    // Lines end as the template engine leaves them.
    "no-trailing-whitespace": "off",
    // As the standard's own examples write it.
    "doctype-style": ["error", { style: "uppercase" }],
    // Everything comes from the gateway itself, by TLS.
    "require-sri": "off",
  },
});
const validator = new HtmlValidate(loader);
for (const file of process.argv.slice(2)) {
  const report = await validator.validateString(readFileSync(file, "utf8"), file);
  for (const { messages, source } of report.results) {
    const lines = (source ?? "").split("\n");
    for (const { line, column, ruleId, message } of messages) {
      console.log(`${file}:${line}:${column}: ${ruleId}: ${message}: ${(lines[line - 1] ?? "").trim().slice(0, 200)}`);
    }
  }
}
