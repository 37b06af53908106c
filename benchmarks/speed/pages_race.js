// Starts the demo's first example, and notes each state of the race that the page shows.
// window.race: {begun, updates: [{at, answered}], complete}, times in milliseconds.
() => {
  const race = { begun: 0, updates: [], complete: 0 };
  const lanes = () => document.querySelector(".dc-race .dc-lanes")?.textContent ?? "";
  const answered = () => document.querySelector(".dc-race .dc-answer[role=status]") !== null;
  const complete = () =>
    answered() &&
    document.querySelector(".dc-clip .dc-lanes, .dc-clip .dc-answer, .dc-clip .dc-error") !== null;
  let shown = lanes();
  new MutationObserver(() => {
    if (lanes() !== "" && lanes() !== shown) {
      shown = lanes();
      race.updates.push({ at: performance.now(), answered: answered() });
    }
    if (race.complete === 0 && complete()) race.complete = performance.now();
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
  window.race = race;
  race.begun = performance.now();
  document.querySelector("button.dc-example, .dc-example button").click();
}
