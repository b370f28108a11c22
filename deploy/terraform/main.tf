# What Torpor needs of Google Cloud: a bucket, Memorystore for Valkey with IAM and TLS, and accounts with just the
# permissions that docs/security.md names.

# The archive

resource "google_storage_bucket" "archive" {
  name                        = var.bucket
  location                    = var.region
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_seconds
  }

  # The end of a session's retention is the custom time of its objects; `torpor bucket` looks for this rule.
  lifecycle_rule {
    condition {
      days_since_custom_time = 0
      matches_prefix         = ["${var.prefix}/"]
    }
    action {
      type = "Delete"
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.bucket]
}

data "google_storage_project_service_account" "storage" {}

# Without it, a bucket with a key of your own accepts no object.
resource "google_kms_crypto_key_iam_member" "bucket" {
  count         = var.kms_key == null ? 0 : 1
  crypto_key_id = var.kms_key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = data.google_storage_project_service_account.storage.member
}

# Memorystore

resource "google_network_connectivity_service_connection_policy" "memorystore" {
  name          = "torpor-memorystore"
  location      = var.region
  service_class = "gcp-memorystore"
  network       = var.network

  psc_config {
    subnetworks = [var.subnetwork]
  }
}

# Without cluster mode, so that Celery can use it as its broker.
resource "google_memorystore_instance" "sessions" {
  instance_id             = "torpor"
  location                = var.region
  mode                    = "CLUSTER_DISABLED"
  engine_version          = "VALKEY_8_0"
  shard_count             = 1
  replica_count           = 1
  node_type               = var.node_type
  authorization_mode      = "IAM_AUTH"
  transit_encryption_mode = "SERVER_AUTHENTICATION"

  # Every other policy deletes sessions when memory is full.
  engine_configs = {
    maxmemory-policy = "noeviction"
  }

  persistence_config {
    mode = "AOF"
    aof_config {
      append_fsync = "EVERY_SEC"
    }
  }

  desired_auto_created_endpoints {
    network    = var.network
    project_id = var.project
  }

  deletion_protection_enabled = true
  depends_on                  = [google_network_connectivity_service_connection_policy.memorystore]
}

# Accounts

resource "google_service_account" "worker" {
  account_id   = "torpor-worker"
  display_name = "Torpor: workers, beat and operators"
}

resource "google_service_account" "application" {
  account_id   = "torpor-application"
  display_name = "Applications whose chats sleep"
}

resource "google_project_iam_custom_role" "archive_reader" {
  role_id     = "torporApplication"
  title       = "Torpor application"
  description = "Wakes sessions; deletes nothing."
  permissions = [
    "storage.objects.create",
    "storage.objects.get",
    "storage.objects.list",
    "storage.objects.update",
  ]
}

resource "google_project_iam_custom_role" "bucket_reader" {
  role_id     = "torporBucketReader"
  title       = "Torpor bucket reader"
  description = "Receipts say how long soft delete keeps what was purged, and torpor bucket who may read it."
  permissions = ["storage.buckets.get", "storage.buckets.getIamPolicy"]
}

resource "google_storage_bucket_iam_member" "worker" {
  bucket = google_storage_bucket.archive.name
  role   = "roles/storage.objectUser"
  member = google_service_account.worker.member
}

resource "google_storage_bucket_iam_member" "worker_bucket" {
  bucket = google_storage_bucket.archive.name
  role   = google_project_iam_custom_role.bucket_reader.name
  member = google_service_account.worker.member
}

resource "google_storage_bucket_iam_member" "application" {
  bucket = google_storage_bucket.archive.name
  role   = google_project_iam_custom_role.archive_reader.name
  member = google_service_account.application.member
}

resource "google_project_iam_member" "memorystore" {
  for_each = {
    worker      = google_service_account.worker.member
    application = google_service_account.application.member
  }
  project = var.project
  role    = "roles/memorystore.dbConnectionUser"
  member  = each.value
}

# Workload Identity: the pods of deploy/kubernetes act as the worker's account.
resource "google_service_account_iam_member" "workload_identity" {
  count              = var.kubernetes_service_account == null ? 0 : 1
  service_account_id = google_service_account.worker.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${var.kubernetes_service_account}]"
}
