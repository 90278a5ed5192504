// Asks the device for a passkey, and sends what it has signed by a form of the page.
(() => {
  "use strict";
  const forms = document.querySelectorAll("form[data-passkey]");

  const bytes = (text) =>
    Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));
  const text = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

  const decoded = (options) => {
    options.challenge = bytes(options.challenge);
    if (options.user) options.user.id = bytes(options.user.id);
    for (const list of [options.excludeCredentials, options.allowCredentials]) {
      for (const known of list || []) known.id = bytes(known.id);
    }
    return options;
  };
  const encoded = (credential) => {
    const response = { clientDataJSON: text(credential.response.clientDataJSON) };
    for (const field of ["attestationObject", "authenticatorData", "signature", "userHandle"]) {
      const value = credential.response[field];
      if (value) response[field] = text(value);
    }
    const { id, rawId, type } = credential;
    return { id, rawId: text(rawId), type, response, clientExtensionResults: credential.getClientExtensionResults() };
  };

  const ask = async (form) => {
    const body = new URLSearchParams({ token: form.elements.token.value, for: form.dataset.for });
    const response = await fetch("/second-factor/passkey/ask", { method: "POST", body, credentials: "same-origin" });
    return response.json();
  };
  const put = (form, name, value) => {
    const field = form.elements[name] || form.appendChild(document.createElement("input"));
    field.type = "hidden";
    field.name = name;
    field.value = value;
  };

  for (const form of forms) {
    const button = form.querySelector("button");
    const problem = form.querySelector(".passkey-problem");
    const say = (words) => {
      problem.textContent = words;
      problem.hidden = false;
    };
    if (!window.isSecureContext) {
      say(form.dataset.insecure);
      continue;
    }
    if (!window.PublicKeyCredential || !navigator.credentials) {
      say(form.dataset.unsupported);
      continue;
    }
    const sign = async () => {
      const answer = await ask(form);
      if (answer.go) {
        location.assign(answer.go);
        return;
      }
      if (!answer.asked) {
        say(answer.problem || form.dataset.failed);
        return;
      }
      const publicKey = decoded(answer.asked.publicKey);
      const credential = await navigator.credentials[form.dataset.passkey]({ publicKey });
      const target = document.getElementById(form.dataset.target) || form;
      const fields = form.dataset.fields || "passkey";
      put(target, `${fields}-number`, answer.asked.id);
      put(target, fields, JSON.stringify(encoded(credential)));
      const remember = document.getElementById("remember");
      if (form.dataset.for === "give" && remember && remember.checked) put(target, "remember", "yes");
      // What else a page asks for stands in the other form, and is looked at first.
      if (target === form) HTMLFormElement.prototype.submit.call(form);
      else target.requestSubmit();
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      problem.hidden = true;
      button.disabled = true;
      sign()
        .catch((error) => {
          if (error.name === "InvalidStateError") say(form.dataset.known);
          else if (/certificate/i.test(error.message)) say(form.dataset.untrusted);
          else if (error.name === "SecurityError") say(form.dataset.insecure);
          else say(form.dataset.failed);
        })
        .finally(() => {
          button.disabled = false;
        });
    });
    button.hidden = false;
  }
})();
