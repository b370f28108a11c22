"""What frameworks ask for, over one conversation: LangChain's chat history, the OpenAI Agents SDK's session."""
