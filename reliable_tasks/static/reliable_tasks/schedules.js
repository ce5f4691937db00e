// Says what a crontab means as soon as it is chosen.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
    const select = document.getElementById("id_crontab");
    const data = document.getElementById("reliable-tasks-crontabs");
    if (!select || !data) {
        return;
    }
    const words = JSON.parse(data.textContent);
    const shown = document.createElement("div");
    shown.className = "help reliable-tasks-words";
    shown.setAttribute("aria-live", "polite");
    const row = select.closest(".form-row") || select.parentElement;
    row.append(shown);
    const tell = () => {
        shown.textContent = words[select.value] || "";
    };
    select.addEventListener("change", tell);
    // The admin's own pop-up for a new crontab announces itself through jQuery only.
    if (window.django && window.django.jQuery) {
        window.django.jQuery(select).on("change", tell);
    }
    tell();
});
