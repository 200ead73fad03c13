"""What every operation of the SDK answers, by the tables of sections 3.1 to 3.3 and 7.1.

By the name of the client's attribute and method: a model of section 3.4, `[X]` for an array of
it. The SDK validates nothing, so the raw JSON is held against these.
"""

from __future__ import annotations

ANSWERS: dict[str, str] = {
    # v1
    "firmware_v1.cancel_scheduled_firmware_upgrade": "FotaV1SuccessResult",
    "firmware_v1.list_available_firmware": "[Firmware]",
    "firmware_v1.list_firmware_upgrade_details": "FirmwareUpgrade",
    "firmware_v1.schedule_firmware_upgrade": "FirmwareUpgrade",
    "firmware_v1.update_firmware_upgrade_devices": "FirmwareUpgradeChangeResult",
    "software_management_callbacks_v1.deregister_callback": "FotaV1SuccessResult",
    "software_management_callbacks_v1.list_registered_callbacks": "[RegisteredCallbacks]",
    "software_management_callbacks_v1.register_callback": "FotaV1CallbackRegistrationResult",
    "software_management_licenses_v1.assign_licenses_to_devices": "V1LicensesAssignedRemovedResult",
    "software_management_licenses_v1.create_list_of_licenses_to_remove": (
        "V1ListOfLicensesToRemoveResult"
    ),
    "software_management_licenses_v1.delete_list_of_licenses_to_remove": "FotaV1SuccessResult",
    "software_management_licenses_v1.list_licenses_to_remove": "V1ListOfLicensesToRemove",
    "software_management_licenses_v1.remove_licenses_from_devices": (
        "V1LicensesAssignedRemovedResult"
    ),
    "software_management_reports_v1.get_device_firmware_upgrade_history": "[DeviceUpgradeHistory]",
    "software_management_reports_v1.list_account_devices": "DeviceListQueryResult",
    "software_management_reports_v1.list_upgrades_for_specified_status": "UpgradeListQueryResult",
    "software_management_subscriptions_v1.get_account_license_status": "AccountLicenseInfo",
    "software_management_subscriptions_v1.get_account_subscription_status": "V1AccountSubscription",
    # v2
    "campaigns_v2.cancel_campaign": "FotaV2SuccessResult",
    "campaigns_v2.get_campaign_information": "CampaignSoftware",
    "campaigns_v2.schedule_campaign_firmware_upgrade": "CampaignSoftware",
    "campaigns_v2.schedule_file_upgrade": "UploadAndScheduleFileResponse",
    "campaigns_v2.schedule_sw_upgrade_http_devices": "UploadAndScheduleFileResponse",
    "campaigns_v2.update_campaign_dates": "CampaignSoftware",
    "campaigns_v2.update_campaign_firmware_devices": "V2AddOrRemoveDeviceResult",
    "client_logging.disable_device_logging": "DeviceLoggingStatus",
    "client_logging.disable_logging_for_devices": "[DeviceLoggingStatus]",
    "client_logging.enable_device_logging": "DeviceLoggingStatus",
    "client_logging.enable_logging_for_devices": "[DeviceLoggingStatus]",
    "client_logging.list_device_logs": "[DeviceLog]",
    "client_logging.list_devices_with_logging_enabled": "[DeviceLoggingStatus]",
    "configuration_files.get_list_of_files": "RetrievesAvailableFilesResponseList",
    "configuration_files.upload_config_file": "UploadConfigurationFilesResponse",
    "server_logging.get_device_check_in_history": "[CheckInHistoryItem]",
    "software_management_callbacks_v2.deregister_callback": "FotaV2SuccessResult",
    "software_management_callbacks_v2.list_registered_callbacks": "CallbackSummary",
    "software_management_callbacks_v2.register_callback": "FotaV2CallbackRegistrationResult",
    "software_management_callbacks_v2.update_callback": "FotaV2CallbackRegistrationResult",
    "software_management_licenses_v2.assign_licenses_to_devices": "V2LicensesAssignedRemovedResult",
    "software_management_licenses_v2.create_list_of_licenses_to_remove": (
        "V2ListOfLicensesToRemoveResult"
    ),
    "software_management_licenses_v2.delete_list_of_licenses_to_remove": "FotaV2SuccessResult",
    "software_management_licenses_v2.get_account_license_status": "V2LicenseSummary",
    "software_management_licenses_v2.list_licenses_to_remove": "V2ListOfLicensesToRemove",
    "software_management_licenses_v2.remove_licenses_from_devices": (
        "V2LicensesAssignedRemovedResult"
    ),
    "software_management_reports_v2.get_campaign_device_status": "V2CampaignDevice",
    "software_management_reports_v2.get_campaign_history_by_status": "V2CampaignHistory",
    "software_management_reports_v2.get_device_firmware_upgrade_history": "[DeviceSoftwareUpgrade]",
    "software_management_reports_v2.list_account_devices": "V2AccountDeviceList",
    "software_management_reports_v2.list_available_software": "[SoftwarePackage]",
    "software_management_subscriptions_v2.get_account_subscription_status": "FotaV2Subscription",
    # v3
    "account_devices.get_account_device_information": "V3AccountDeviceList",
    "account_devices.list_account_devices_information": "DeviceListResult",
    "campaigns_v3.cancel_campaign": "FotaV3SuccessResult",
    "campaigns_v3.get_campaign_information": "Campaign",
    "campaigns_v3.schedule_campaign_firmware_upgrade": "FirmwareCampaign",
    "campaigns_v3.update_campaign_dates": "FirmwareCampaign",
    "campaigns_v3.update_campaign_firmware_devices": "V3AddOrRemoveDeviceResult",
    "firmware_v3.list_available_firmware": "[FirmwarePackage]",
    "firmware_v3.report_device_firmware": "DeviceFirmwareVersionUpdateResult",
    "firmware_v3.synchronize_device_firmware": "DeviceFirmwareList",
    "software_management_callbacks_v3.deregister_callback": "FotaV3SuccessResult",
    "software_management_callbacks_v3.list_registered_callbacks": "FotaV3CallbackSummary",
    "software_management_callbacks_v3.register_callback": "FotaV3CallbackRegistrationResult",
    "software_management_callbacks_v3.update_callback": "FotaV3CallbackRegistrationResult",
    "software_management_licenses_v3.assign_licenses_to_devices": "V3LicenseAssignedRemovedResult",
    "software_management_licenses_v3.get_account_licenses_status": "V3LicenseSummary",
    "software_management_licenses_v3.remove_licenses_from_devices": (
        "V3LicenseAssignedRemovedResult"
    ),
    "software_management_reports_v3.get_campaign_device_status": "V3CampaignDevice",
    "software_management_reports_v3.get_campaign_history_by_status": "V3CampaignHistory",
    "software_management_reports_v3.get_device_firmware_upgrade_history": "[DeviceFirmwareUpgrade]",
    "software_management_subscriptions_v3.get_account_subscription_status": "FotaV3Subscription",
}

UNSET = frozenset(
    {
        # Of campaigns: what nobody asked for. Of one of software: what a file has.
        "campaignName",
        "downloadAfterDate",
        "installAfterDate",
        "fileName",
        "fileVersion",
        # Of a device that was not asked yet, and of one that will not be asked again; the answers
        # about licences have the same model.
        "recentAttemptTime",
        "nextAttemptTime",
        # Where no listener is registered, and since 2.9.
        "url",
        "username",
        "password",
    }
)
"""Optional fields that an answer may leave out, because there is nothing to say. All the others
are always there, although the SDK requires few of them."""

OAUTH = {
    "oauth_authorization.request_token_thingspace_oauth",
    "session_management.start_connectivity_management_session",
    "session_management.end_connectivity_management_session",
}
"""What is no operation of the Software Management Services, and comes before them."""
