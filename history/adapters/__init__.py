"""A conversation in the form that each framework expects: LangChain's chat history, the OpenAI Agents SDK's session."""
