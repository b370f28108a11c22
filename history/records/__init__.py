"""The records of a LangGraph thread, as plain data: their bytes, their values, and the thread that they make up.

A thread is a session whose elements are records. Each record is what LangGraph has written in one call: a checkpoint,
or the writes of a task. Needs ormsgpack, which LangGraph's checkpoint library and the worker bring.
"""
