"""What each kind of record means and what to do about it: the text of `journalctl -x`, in English and Spanish. Pure.

The files that systemd reads are kept in systemd/, where they can be reviewed; a test holds that they are what
`catalogue` gives for the table of `sereno.messages`. Nothing of a run loads this.
"""

from __future__ import annotations

from typing import NamedTuple

from sereno import messages


class Text(NamedTuple):
    """An explanation: one line, and paragraphs. `@FIELD@` is the record's own (catalog entries of systemd)."""

    subject: str
    body: str


class Explanation(NamedTuple):
    """One kind of record, in both languages."""

    kind: str
    en: Text
    es: Text


LANGUAGES = ("en", "es")
ALL = (
    Explanation(
        messages.STARTED.kind,
        Text(
            "Job @SERENO_JOB@ has started",
            "A run has begun: by its timer, or by hand (sereno run, systemctl start).\n\n"
            "All that it says: journalctl SERENO_RUN=@SERENO_RUN@",
        ),
        Text(
            "La tarea @SERENO_JOB@ ha empezado",
            "Ha comenzado una ejecución: por su timer, o a mano (sereno run, systemctl start).\n\n"
            "Todo lo que dice: journalctl SERENO_RUN=@SERENO_RUN@",
        ),
    ),
    Explanation(
        messages.FINISHED.kind,
        Text(
            "Job @SERENO_JOB@ has finished",
            "The run succeeded after @SERENO_DURATION_MS@ ms and @SERENO_TRIES@ tries.\n"
            "Its statistics are in the field SERENO_STATS.\n\n"
            "How it did before: sereno history @SERENO_JOB@",
        ),
        Text(
            "La tarea @SERENO_JOB@ ha terminado",
            "La ejecución acabó bien tras @SERENO_DURATION_MS@ ms y @SERENO_TRIES@ intentos.\n"
            "Sus estadísticas están en el campo SERENO_STATS.\n\n"
            "Cómo le fue antes: sereno history @SERENO_JOB@",
        ),
    ),
    Explanation(
        messages.FAILED.kind,
        Text(
            "Job @SERENO_JOB@ has failed",
            "The function raised an exception, returned an error, or exceeded its time limit:\n"
            "@SERENO_ERROR@\n\n"
            "The next elapse of its timer runs it again; nothing else has to be reset.\n"
            "What it said before:       journalctl SERENO_RUN=@SERENO_RUN@\n"
            "The traceback, if any:     journalctl SERENO_RUN=@SERENO_RUN@ -o verbose (EXCEPTION_TEXT)\n"
            "Since when it fails:       sereno history @SERENO_JOB@\n"
            "Once the cause is mended:  sereno run @SERENO_JOB@ --wait\n\n"
            "A run that fails only as a service lacks something that the sandbox denies: the\n"
            "network (network=True), a place to write (ReadWritePaths=) or a home directory.",
        ),
        Text(
            "La tarea @SERENO_JOB@ ha fallado",
            "La función lanzó una excepción, devolvió un error o superó su límite de tiempo:\n"
            "@SERENO_ERROR@\n\n"
            "Su timer la ejecutará de nuevo a su hora; no hay que reponer nada más.\n"
            "Lo que dijo antes:               journalctl SERENO_RUN=@SERENO_RUN@\n"
            "La traza, si la hay:             journalctl SERENO_RUN=@SERENO_RUN@ -o verbose (EXCEPTION_TEXT)\n"
            "Desde cuándo falla:              sereno history @SERENO_JOB@\n"
            "Cuando la causa esté arreglada:  sereno run @SERENO_JOB@ --wait\n\n"
            "Si solo falla como servicio, le falta algo que el aislamiento niega: la red\n"
            "(network=True), un lugar donde escribir (ReadWritePaths=) o un directorio personal.",
        ),
    ),
    Explanation(
        messages.SKIPPED_LATE.kind,
        Text(
            "A run of job @SERENO_JOB@ was left out",
            "It was due, and its registration told it not to run: it came later than\n"
            "misfire_grace= allows, or the latest run of a job in after= was no success\n"
            "(only_if_success=). The message says which. This is no failure.\n\n"
            "To run it all the same: sereno run @SERENO_JOB@ --wait",
        ),
        Text(
            "Se omitió una ejecución de la tarea @SERENO_JOB@",
            "Le tocaba, y su registro le dijo que no se ejecutara: llegó más tarde de lo que\n"
            "permite misfire_grace=, o la última ejecución de una tarea de after= no acabó bien\n"
            "(only_if_success=). El mensaje dice cuál. No es un fallo.\n\n"
            "Para ejecutarla de todos modos: sereno run @SERENO_JOB@ --wait",
        ),
    ),
    Explanation(
        messages.INTERRUPTED.kind,
        Text(
            "A run of job @SERENO_JOB@ was stopped",
            "It got SIGTERM after @SERENO_DURATION_MS@ ms: an administrator stopped the service, the\n"
            "machine went down, or another program sent the signal. It will run at its next\n"
            "elapse; what it had not done by then is not made up for.\n\n"
            "To run it now: sereno run @SERENO_JOB@ --wait",
        ),
        Text(
            "Se detuvo una ejecución de la tarea @SERENO_JOB@",
            "Recibió SIGTERM tras @SERENO_DURATION_MS@ ms: alguien detuvo el servicio, la máquina se\n"
            "apagaba, u otro programa envió la señal. Se ejecutará a su próxima hora; lo que no\n"
            "llegó a hacer no se recupera.\n\n"
            "Para ejecutarla ahora: sereno run @SERENO_JOB@ --wait",
        ),
    ),
    Explanation(
        messages.TRY_FAILED.kind,
        Text(
            "A try of job @SERENO_JOB@ has failed, another follows",
            "Try @SERENO_TRY@ failed, and the job has retries= left. The next one comes after\n"
            "@SERENO_RETRY_DELAY_S@ s, in the same run: @SERENO_ERROR@\n\n"
            "Nothing has to be done unless the last one fails too; that is a record of its own.",
        ),
        Text(
            "Un intento de la tarea @SERENO_JOB@ ha fallado, le sigue otro",
            "Falló el intento @SERENO_TRY@, y a la tarea le quedan reintentos (retries=). El próximo\n"
            "llega tras @SERENO_RETRY_DELAY_S@ s, en la misma ejecución: @SERENO_ERROR@\n\n"
            "No hay que hacer nada salvo que falle también el último; eso tiene su propio registro.",
        ),
    ),
    Explanation(
        messages.OVERRUN_INTERVAL.kind,
        Text(
            "A run of job @SERENO_JOB@ took longer than its schedule allows",
            "The timer elapsed while the run was still going. Two runs of a job never overlap:\n"
            "however many elapses were missed, at most one run follows at once.\n\n"
            "How long its runs take:  sereno history @SERENO_JOB@\n"
            "If it happens often, schedule the job less often, or have it do less in one run.",
        ),
        Text(
            "Una ejecución de la tarea @SERENO_JOB@ duró más de lo que permite su horario",
            "Llegó su hora mientras seguía en marcha. Dos ejecuciones de una tarea nunca se\n"
            "solapan: por muchas horas que se pierdan, sigue de inmediato a lo sumo una.\n\n"
            "Cuánto duran sus ejecuciones:  sereno history @SERENO_JOB@\n"
            "Si ocurre a menudo, prográmela con menos frecuencia o que haga menos cada vez.",
        ),
    ),
    Explanation(
        messages.ALERT_CAPACITY.kind,
        Text(
            "The metadata cache is nearly full",
            "After its cleanup it holds more than SERENO_ALERT_CAPACITY_PERCENT (90) of max_size.\n"
            "When it is full, each new entry evicts one that was not read lately.\n\n"
            "Its size and limits:  sereno cache stats\n"
            "Where the entries are wanted, have the backend give MetadataCache a larger max_size=;\n"
            "where they are not, a shorter default_ttl= or ttl=.",
        ),
        Text(
            "El caché de metadatos está casi lleno",
            "Tras la limpieza contiene más de SERENO_ALERT_CAPACITY_PERCENT (90) de max_size.\n"
            "Cuando se llena, cada entrada nueva desaloja una que no se leyó últimamente.\n\n"
            "Su tamaño y sus límites:  sereno cache stats\n"
            "Si las entradas hacen falta, que el backend dé a MetadataCache un max_size= mayor;\n"
            "si no, un default_ttl= o ttl= más corto.",
        ),
    ),
    Explanation(
        messages.ALERT_HIT_RATE.kind,
        Text(
            "The metadata cache answers few requests",
            "Since the cleanup before, fewer than SERENO_ALERT_HIT_RATE_PERCENT (60) of the requests\n"
            "found a value, out of more than SERENO_ALERT_MIN_REQUESTS (100).\n\n"
            "Its counters:  sereno cache stats\n"
            "Many evictions: it is too small. Many expired removals: the time to live is short.\n"
            "Many invalidations: what is cached changes too often. After a reboot it is normal.",
        ),
        Text(
            "El caché de metadatos responde a pocas peticiones",
            "Desde la limpieza anterior encontraron valor menos de SERENO_ALERT_HIT_RATE_PERCENT (60)\n"
            "de cada cien peticiones, de más de SERENO_ALERT_MIN_REQUESTS (100).\n\n"
            "Sus contadores:  sereno cache stats\n"
            "Muchas evictions: es pequeño. Muchos expired_removals: el TTL es corto. Muchas\n"
            "invalidations: lo guardado cambia demasiado. Tras un reinicio es normal.",
        ),
    ),
    Explanation(
        messages.ALERT_ERROR.kind,
        Text(
            "The metadata cache could not be cleaned up",
            "Nothing, or not everything, was removed; what is expired is not served all the same.\n\n"
            "Full disk, rights, a file system that is not local:  sereno doctor\n"
            "Can it be read:                                      sereno cache stats\n"
            "A cache holds nothing that cannot be made again: if its files are damaged, stop what\n"
            "uses it, remove them, and start it again.",
        ),
        Text(
            "No se pudo limpiar el caché de metadatos",
            "No se eliminó nada, o no todo; aun así, lo caducado no se sirve.\n\n"
            "Disco lleno, permisos, un sistema de archivos no local:  sereno doctor\n"
            "Si puede leerse:                                         sereno cache stats\n"
            "Un caché no contiene nada que no se pueda volver a obtener: si sus archivos están\n"
            "dañados, detenga lo que lo usa, bórrelos y arránquelo de nuevo.",
        ),
    ),
    Explanation(
        messages.NO_METRICS.kind,
        Text(
            "Metrics of @SERENO_JOB@ could not be written",
            "SERENO_TEXTFILE_DIR is set, and this run could not leave its file there. The run itself\n"
            "is not concerned. The directory has to exist, to be writable for the group sereno, and\n"
            "to be in ReadWritePaths= of the service:\n\n"
            "systemctl cat sereno@.service",
        ),
        Text(
            "No se pudieron escribir las métricas de @SERENO_JOB@",
            "SERENO_TEXTFILE_DIR está puesto, y esta ejecución no pudo dejar ahí su archivo. A la\n"
            "ejecución misma no le afecta. El directorio debe existir, admitir escritura del grupo\n"
            "sereno y figurar en ReadWritePaths= del servicio:\n\n"
            "systemctl cat sereno@.service",
        ),
    ),
    Explanation(
        messages.DELIVERED.kind,
        Text(
            "People were told about job @SERENO_JOB@",
            "The handler @SERENO_HANDLER@ of notify.toml has taken a message.",
        ),
        Text(
            "Se avisó sobre la tarea @SERENO_JOB@",
            "La vía @SERENO_HANDLER@ de notify.toml ha aceptado un mensaje.",
        ),
    ),
    Explanation(
        messages.NOT_DELIVERED.kind,
        Text(
            "People could not be told about job @SERENO_JOB@",
            "A message did not leave: @SERENO_ERROR@\n\n"
            "Try all handlers:  sereno notify test\n"
            "Their settings are in notify.toml, in /etc/sereno, or for a user in ~/.config/sereno.",
        ),
        Text(
            "No se pudo avisar sobre la tarea @SERENO_JOB@",
            "Un mensaje no salió: @SERENO_ERROR@\n\n"
            "Probar todas las vías:  sereno notify test\n"
            "Su configuración está en notify.toml, en /etc/sereno, o en ~/.config/sereno de un usuario.",
        ),
    ),
    Explanation(
        messages.HELD_BACK.kind,
        Text(
            "A message about job @SERENO_JOB@ is held back",
            "The same was told a short while ago. It is counted, and the next message says how\n"
            "often it happened. The intervals are in notify.toml.",
        ),
        Text(
            "Se retiene un aviso sobre la tarea @SERENO_JOB@",
            "Lo mismo se avisó hace poco. Se cuenta, y el próximo aviso dirá cuántas veces\n"
            "ocurrió. Los plazos están en notify.toml.",
        ),
    ),
    Explanation(
        messages.PING_FAILED.kind,
        Text(
            "A monitor was not told of a run of job @SERENO_JOB@",
            "The job's heartbeat did not arrive: @SERENO_ERROR@\n"
            "The monitor will say that the job is missing, although it may well have run:\n\n"
            "sereno status @SERENO_JOB@",
        ),
        Text(
            "Un monitor no supo de una ejecución de la tarea @SERENO_JOB@",
            "El latido de la tarea no llegó: @SERENO_ERROR@\n"
            "El monitor dirá que la tarea falta, aunque bien puede haberse ejecutado:\n\n"
            "sereno status @SERENO_JOB@",
        ),
    ),
)  # fmt: skip


def catalogue(language: str) -> str:
    """The catalogue file of one of `LANGUAGES`, in the order of `ALL`.

    Its format has no comments within an entry, and one malformed entry takes the others with it
    (https://systemd.io/CATALOG): so no line of a text may look like the head of the next entry.
    """
    entries = []
    for explanation in ALL:
        text: Text = getattr(explanation, language)
        entries.append(
            f"-- {explanation.kind}\nSubject: {text.subject}\nDefined-By: sereno\n"
            f"Documentation: man:sereno(1)\nDocumentation: man:sereno-jobs(5)\n\n{text.body}\n"
        )
    return (
        "# Generated from lib/sereno/explanations.py; tests/unit/test_messages.py writes it.\n\n"
        + ("\n".join(entries))
    )
