/* Tells the console the browser's time zone, so that times are shown as the viewer's own clock has them. */
document.cookie =
  "yunhe_zone=" + encodeURIComponent(Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC") + "; Path=/; SameSite=Lax";
