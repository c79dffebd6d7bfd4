"""What runs and sereno-notify log: the one table of their texts, in Spanish and English, and of the kinds of record.

Spanish is the language of the log, to the letter; `SERENO_LANG=en` in a service's environment has its run log in
English. A message is given to `logging` as it is: `logger.info(messages.STARTED, job_id)`. What each kind means and
what to do about it is in systemd's catalogue, systemd/sereno.catalog.
"""

from __future__ import annotations

import os

from sereno.named_tuple import NamedTuple
from sereno.setting_names import LANGUAGE


class Message(NamedTuple):
    """One text with its %-arguments, the same in both languages.

    Attributes:
        kind: MESSAGE_ID of its record, for ever: `journalctl MESSAGE_ID=…`, the catalogue and
            `sereno.observe.runs` go by it. Empty: a record without, or a part of another text.
    """

    es: str
    en: str
    kind: str = ""

    def __str__(self) -> str:
        return self.en if os.environ.get(LANGUAGE, "").startswith("en") else self.es


_SKIPPED = "b2cd3c4d8cd044c392c152a1cdb22abe"
_OVERRUN = "405ad1c80d9f46258c3c6f80fe95b15a"
_NOT_DELIVERED = "2f34b1d9ea8d4da596dc0aa613190056"
_PING_FAILED = "393f47682b3f407a81122d82e311c9b5"

# A run.
STARTED = Message("Tarea %s iniciada", "Job %s started", "5e6016bdb0a94162b63c3f18577a34a6")
FINISHED = Message(
    "Tarea %s terminada en %s%s", "Job %s finished in %s%s", "d273f3f974d24dcca798ba71c698c7c5"
)
STATS_LEFT_OUT = Message(
    "Tarea %s: %d estadísticas omitidas, el registro admite %d y %d caracteres en total",
    "Job %s: %d statistics left out, a record holds %d and %d characters in all",
)
FAILED = Message(
    "Tarea %s fallida tras %s: %s", "Job %s failed after %s: %s", "c8db476b7d964ab2bd2d7abc51d7b261"
)
INTERRUPTED = Message(
    "Tarea %s interrumpida tras %s%s",
    "Job %s interrupted after %s%s",
    "41d737715db34f399ecab3f142b40e50",
)
STAYED = Message(
    "Tarea %s: su proceso no terminó en %gs tras su registro y se termina; lo retenía: %s",
    "Job %s: its process had not ended %gs after its record and is ended; it was kept by: %s",
    "f0609b8a7dc649b184fb9a5d288f5316",
)
AND_TRIES = Message(" y %d intentos", " and %d tries")
OVER_TIME_LIMIT = Message("límite de tiempo superado: %s", "time limit exceeded: %s")
TRY_FAILED = Message(
    "Tarea %s: intento %d de %d fallido, el siguiente en %gs: %s",
    "Job %s: try %d of %d failed, the next one in %gs: %s",
    "74c63f1b04a141e6abd2df573682eab9",
)
NO_RETRIES = Message(
    "Tarea %s: SERENO_RETRY…, sin reintentos: %s", "Job %s: SERENO_RETRY…, no retries: %s"
)
OVERRUN_INTERVAL = Message(
    "Tarea %s solapada: duró %.2fs, más que su intervalo de %ss",
    "Job %s overran: it took %.2fs, more than its interval of %ss",
    _OVERRUN,
)
OVERRUN_ELAPSE = Message(
    "Tarea %s solapada: su hora de %s pasó durante la ejecución (%.2fs)",
    "Job %s overran: its time of %s passed during the run (%.2fs)",
    _OVERRUN,
)
OVERRUN_UNKNOWN = Message(
    "Tarea %s: solape no comprobado: %s", "Job %s: not checked for an overrun: %s"
)

# A run that is left out.
SKIPPED_LATE = Message(
    "Tarea %s omitida: prevista para %s, con %.0fs de retraso (margen: %gs)",
    "Job %s skipped: due at %s, late by %.0fs (grace: %gs)",
    _SKIPPED,
)
SKIPPED_AFTER = Message("Tarea %s omitida: %s", "Job %s skipped: %s", _SKIPPED)
LATENESS_UNKNOWN = Message(
    "Tarea %s: retraso no comprobado: %s", "Job %s: not checked for lateness: %s"
)
NO_SECONDS = Message(
    "Tarea %s: %s o %s no es un número de segundos", "Job %s: %s or %s is not a number of seconds"
)
NOBODY_TO_ASK = Message("no se puede preguntar a systemd: %s", "systemd cannot be asked: %s")
OTHER_IS_RUNNING = Message("está en ejecución", "is running")
OTHER_FAILED = Message("falló (%s)", "failed (%s)")
OTHER_DID_NOT_RUN = Message(
    "no se ha ejecutado desde el arranque", "has not run since the machine started"
)
OTHER_LEFT = Message("no dejó registro de su fin", "left no record of its end")
OTHER_WAS_SKIPPED = Message("fue omitida", "was skipped")
OTHER_WAS_INTERRUPTED = Message("fue interrumpida", "was interrupted")
OTHER_ENDED = Message("terminó con estado %s", "ended with status %s")

# A run that is to be the only one of its elapse in a fleet.
FLEET_TAKEN = Message(
    "su hora de %s es de %s (%s) en la flota", "its time of %s is that of %s (%s) in the fleet"
)
FLEET_RUNNING = Message("se ejecuta en %s desde %s", "it runs on %s since %s")
FLEET_PAUSED = Message("en pausa en toda la flota desde %s", "paused in the whole fleet since %s")
FLEET_RESUMED = Message(
    "su hora de %s es anterior al fin de la pausa de la flota",
    "its time of %s came before the fleet's pause was over",
)
FLEET_APART = Message(
    "el reloj está a %+.1fs del de la flota, más de %gs",
    "the clock is %+.1fs from the fleet's, more than %gs",
)
FLEET_UNASKED = Message("no se puede pedir su turno: %s", "its turn cannot be asked for: %s")
FLEET_LATE = Message("se dio antes por perdida", "it had been given up as lost")
LOST = Message(
    "Tarea %s perdida: de su hora de %s en %s nadie anotó el fin (ejecución %s)",
    "Job %s lost: of its time of %s on %s nobody recorded the end (run %s)",
    "7c3f1be0a4d2495f8e66d0c9b1a75e34",
)
UNRECORDED = Message(
    "Tarea %s: su fin no se anotó en la flota: %s",
    "Job %s: its end was not recorded in the fleet: %s",
    "e18a52d7c60b4f6c9d3a7f42b85c0196",
)

# The cleanup of the cache.
CLEANUP_STARTED = Message(
    "Iniciando limpieza programada de caché de metadatos",
    "Starting scheduled cleanup of the metadata cache",
)
CLEANUP_FINISHED = Message(
    "Limpieza completada: %d entradas eliminadas, ~%dKB liberados, duración: %.2fms, hit rate: %.1f%%",
    "Cleanup finished: %d entries removed, ~%dKB freed, duration: %.2fms, hit rate: %.1f%%",
)
ALERT_CAPACITY = Message(
    "Caché al %.1f%% de capacidad (%d/%d). Considere aumentar max_size o reducir TTL.",
    "Cache at %.1f%% of its capacity (%d/%d). Consider raising max_size or shortening the TTL.",
    "6b70ac9b8cc943ffb3fe04c7fcfd0502",
)
# The same kind, of a cache on a server, which is limited by memory.
ALERT_MEMORY = Message(
    "Caché al %.1f%% de su memoria (%d/%d bytes). Considere aumentar maxmemory o reducir TTL.",
    "Cache at %.1f%% of its memory (%d/%d bytes). Consider raising maxmemory or shortening the TTL.",
    ALERT_CAPACITY.kind,
)
ALERT_HIT_RATE = Message(
    "Hit rate bajo (%.1f%%). El caché podría no estar siendo efectivo. Hits: %d, Misses: %d",
    "Hit rate low (%.1f%%). The cache may be of little use. Hits: %d, Misses: %d",
    "4cc3ac700904425cbc9d7816665c8d54",
)
ALERT_ERROR = Message(
    "Error durante limpieza de caché: %s",
    "Error during the cleanup of the cache: %s",
    "48ed658150c846b4a05bf9aefdc6ae9b",
)

# Metrics.
NO_METRICS = Message(
    "Métricas no escritas en %s: %s",
    "Metrics not written to %s: %s",
    "fca3eb2c0ee64ae69dd3be1164b5e280",
)

# Telling people and monitors.
DELIVERED = Message(
    "Aviso entregado por %s: %s", "Message delivered by %s: %s", "b82a1f12aa2447cf978f113b9238b1b8"
)
NOT_DELIVERED = Message(
    "Aviso no entregado por %s: %s (%s)", "Message not delivered by %s: %s (%s)", _NOT_DELIVERED
)
NONE_SENT = Message("Avisos no enviados: %s", "No messages sent: %s", _NOT_DELIVERED)
HELD_BACK = Message(
    "Aviso de la tarea %s retenido hasta %s: %s",
    "Message about job %s held back until %s: %s",
    "b51a5728d6554f62a9dbc541e2f79cf3",
)
FAILURES_IN_A_ROW = Message("%d fallos seguidos", "%d failures in a row")
NO_MEMORY = Message("Tarea %s: avisos sin memoria: %s", "Job %s: messages without a memory: %s")
HANDLER_BROKE = Message("Aviso por %s: error inesperado", "Message by %s: unexpected error")
NOT_ASKED_FOR = Message(
    "Tarea %s: aviso no pedido: %s: %s", "Job %s: message not asked for: %s: %s"
)
PING_FAILED = Message(
    "Tarea %s: latido no entregado: %s", "Job %s: heartbeat not delivered: %s", _PING_FAILED
)
NO_HEARTBEATS = Message("Tarea %s: sin latidos: %s", "Job %s: no heartbeats: %s", _PING_FAILED)

# What people get to read.
TITLE_FAILURE = Message("%s fallida (%s)", "%s failed (%s)")
TITLE_RECOVERY = Message("%s recuperada", "%s recovered")
TITLE_FAILURES = Message("%d tareas fallidas: %s", "%d jobs failed: %s")
TITLE_RECOVERIES = Message("%d tareas recuperadas: %s", "%d jobs recovered: %s")
TITLE_ALERTS = Message("%d avisos: %s", "%d alerts: %s")
TITLE_LOST = Message("%d ejecuciones perdidas: %s", "%d lost runs: %s")
TITLE_TEST = Message("mensaje de prueba", "test message")
BODY_TEST = Message(
    "Los avisos de sereno en %s llegan por esta vía.",
    "The messages of sereno on %s arrive this way.",
)
SIGNAL = Message("señal %s", "signal %s")
ROW_JOB = Message("Tarea", "Job")
ROW_HOST = Message("Máquina", "Host")
ROW_TIME = Message("Hora", "Time")
ROW_RESULT = Message("Resultado", "Result")
ROW_ERROR = Message("Error", "Error")
ROW_MESSAGE = Message("Mensaje", "Message")
ROW_FAILURES = Message("Fallos", "Failures")
ROW_UNTOLD = Message("Sin aviso", "Untold")
ROW_QUIET = Message("Silencio", "Quiet")
ROW_RUN = Message("Ejecución", "Run")
FAILURES_SINCE = Message("%d seguidos desde %s", "%d in a row since %s")
UNTOLD = Message("%d desde el aviso anterior", "%d since the message before")
QUIET_UNTIL = Message(
    "los siguientes solo se cuentan, hasta %s", "the next ones are only counted, until %s"
)
LAST_LINES = Message("Últimas líneas:", "Last lines:")
