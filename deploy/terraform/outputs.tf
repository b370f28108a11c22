output "archive_url" {
  description = "TORPOR_ARCHIVE_URL"
  value       = "gs://${google_storage_bucket.archive.name}/${var.prefix}"
}

output "memorystore_instance" {
  description = "The instance whose address and authority TORPOR_REDIS_URL and TORPOR_REDIS_CA_FILE need."
  value       = google_memorystore_instance.sessions.id
}

output "worker_account" {
  description = "For deploy/kubernetes/service-account.yaml and deploy/cloud-run."
  value       = google_service_account.worker.email
}
