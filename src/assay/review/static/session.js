/** What the server said of the audit when it made this page. */
export const session = JSON.parse(document.getElementById("session").textContent);
